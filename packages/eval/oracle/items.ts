// Records with the fields of each dataset, made from small stories and old speeches: the datasets themselves need a network.
import { createRng, type Rng } from '@lowbit/core';
import { sotuCorpus } from '@lowbit/data';

export type Item = Readonly<Record<string, unknown>>;

/** Draws for one record. */
interface Draw {
  one<T>(among: readonly T[]): T;
  /** So many different ones. */
  several<T>(among: readonly T[], count: number): T[];
  index(below: number): number;
  /** Sentences of a speech in a row. */
  speech(count: number): string;
}

const names = ['Lily', 'Tom', 'Anna', 'Ben', 'Mia', 'Zoé', 'Max', 'Søren', 'Sue', 'Tim'];
const animals = ['dog', 'cat', 'bird', 'frog', 'bunny', 'bear', 'duck', 'mouse'];
const things = ['ball', 'kite', 'book', 'red car', 'big box', 'cake', 'toy boat', 'drum', 'warm blanket', 'shiny key'];
const places = ['the park', 'the garden', 'the forest', 'his room', 'the beach', 'a small house', 'the kitchen', 'the old barn'];
const feelings = ['happy', 'sad', 'scared', 'very proud', 'angry', 'tired but glad'];
const doings = ['played with', 'looked for', 'lost', 'found', 'shared', 'wanted', 'hid', 'threw away'];
const endings = ['and went home.', 'and they all laughed.', 'because it was late.', 'and fell asleep in the sun.', 'but nobody was there…'];

function sentence(draw: Draw): string {
  const name = draw.one(names);
  const start = `${name} ${draw.one(doings)} the ${draw.one(things)} in ${draw.one(places)}`;
  return draw.one([
    `${start} ${draw.one(endings)}`,
    `${start}. ${name} was ${draw.one(feelings)}.`,
    `“${start}!” said the ${draw.one(animals)}.`,
  ]);
}

/** One way to make the records of a task, from draws and the number of the record. */
const makers: Readonly<Record<string, (draw: Draw, i: number) => Item>> = {
  arc_easy: (draw, i) => science(draw, i, 4),
  arc_challenge: (draw, i) => science(draw, i, 3 + (i % 3)),
  hellaswag(draw, i) {
    const how = i % 3 === 0;
    const activity = how ? 'Playing in the garden' : draw.one(['Flying a kite', 'Baking', 'Washing dishes']);
    const first = how
      ? `[header] How to find a ${draw.one(animals)} [title] Look in ${draw.one(places)}. [step]  ${sentence(draw)}`
      : sentence(draw);
    return {
      ind: i,
      activity_label: activity,
      ctx_a: first,
      ctx_b: i % 2 === 0 ? '' : `${draw.one(['THE', 'the', 'a'])} ${draw.one(animals)}`,
      ctx: '',
      endings: Array.from(
        { length: 4 },
        () => `${draw.one(['', '[substeps] ', ' '])}${draw.one(doings)} the ${draw.one(things)} ${draw.one(endings)}`,
      ),
      label: String(draw.index(4)),
    };
  },
  piqa: (draw) => ({
    goal: `${draw.one(['How do you carry', 'To clean', 'To hide', 'Ready for'])} a ${draw.one(things)}${draw.one(['', '?', ', quickly'])}`,
    sol1: `Put it in ${draw.one(places)} ${draw.one(endings)}`,
    sol2: draw.one([`Give it to the ${draw.one(animals)}.`, sentence(draw)]),
    label: draw.index(2),
  }),
  winogrande(draw) {
    const [first, second] = draw.several(names, 2);
    const thing = draw.one(things);
    const sentences = [
      `${first} gave the ${thing} to ${second} because _ ${draw.one(doings)} it.`,
      `${first} was ${draw.one(feelings)} and _ cried.`,
    ];
    return { sentence: draw.one(sentences), option1: first, option2: second, answer: draw.one(['1', '2']) };
  },
  boolq: (draw, i) => ({
    question: `is the ${draw.one(things)} in ${draw.one(places)}`,
    passage: i % 4 === 0 ? draw.speech(12) : `${sentence(draw)} ${sentence(draw)}`,
    idx: i,
    label: draw.index(2),
  }),
  lambada_openai(draw) {
    const [name, animal] = [draw.one(names), draw.one(animals)];
    const start = `One day, ${name} saw a little ${animal}. ${sentence(draw)} ${sentence(draw)}`;
    return {
      text: draw.one([
        `${start} Then ${name} hugged the ${animal}`,
        `${start} “I like you,” said ${name} to the ${animal}`,
        `${start} They were happy`,
      ]),
    };
  },
  lambada_standard: (draw) => ({ text: `${sentence(draw).toLowerCase()} ${draw.one(names)} smiled` }),
  openbookqa(draw, i) {
    const choices = draw.several(things, 4);
    const question_stem = `${draw.one(names)} ${draw.one(doings)} a`;
    return { id: `o${i}`, question_stem, choices: { text: choices, label: ['A', 'B', 'C', 'D'] }, answerKey: 'ABCD'[draw.index(4)] };
  },
  sciq(draw, i) {
    const [distractor3, distractor1, distractor2, correct_answer] = draw.several(animals, 4);
    const support = i % 5 === 0 ? '' : ` The ${correct_answer} lives in ${draw.one(places)}. ${sentence(draw)}`;
    return { question: `Who lives in ${draw.one(places)}?`, distractor3, distractor1, distractor2, correct_answer, support };
  },
  copa: (draw, i) => ({
    premise: sentence(draw),
    choice1: `The ${draw.one(animals)} was ${draw.one(feelings)}.`,
    choice2: sentence(draw),
    question: draw.one(['cause', 'effect']),
    idx: i,
    label: draw.index(2),
  }),
  sst2: (draw, i) => ({ sentence: `the story of the ${draw.one(animals)} made me ${draw.one(feelings)} `, label: draw.index(2), idx: i }),
  cola: (draw, i) => ({
    sentence: i % 2 === 0 ? sentence(draw) : sentence(draw).split(' ').reverse().join(' '),
    label: (i + 1) % 2,
    idx: i,
  }),
  rte: (draw, i) => pair(draw, i, ['sentence1', 'sentence2'], 2),
  wnli: (draw, i) => pair(draw, i, ['sentence1', 'sentence2'], 2),
  mrpc: (draw, i) => pair(draw, i, ['sentence1', 'sentence2'], 2),
  qqp: (draw, i) => pair(draw, i, ['question1', 'question2'], 2),
  qnli: (draw, i) => pair(draw, i, ['question', 'sentence'], 2),
  mnli: (draw, i) => pair(draw, i, ['premise', 'hypothesis'], 3),
  mnli_mismatch: (draw, i) => pair(draw, i, ['premise', 'hypothesis'], 3),
};

function science(draw: Draw, i: number, count: number): Item {
  const label = [...(i % 4 === 3 ? '12345' : 'ABCDE')].slice(0, count);
  const question = draw.one([
    `What did the ${draw.one(animals)} find in ${draw.one(places)}?`,
    `${sentence(draw)} Where was the ${draw.one(things)}?`,
  ]);
  return { id: `q${i}`, question, choices: { text: draw.several([...things, ...places], count), label }, answerKey: draw.one(label) };
}

function pair(draw: Draw, i: number, [first, second]: readonly [string, string], labels: number): Item {
  const text = sentence(draw);
  return { [first]: text, [second]: i % 3 === 0 ? ` ${text} ` : sentence(draw), label: draw.index(labels), idx: i };
}

/** Tasks that there are records for. */
export const itemTasks: readonly string[] = Object.keys(makers);

/** Records of a task, always the same ones. Those of a training split are others than those of the split that is judged. */
export async function itemsOf(task: string, split: string, count: number): Promise<Item[]> {
  const { documents } = await sotuCorpus('held-out');
  const rng = createRng(0).at('items', task, split === 'train' ? 'train' : 'judged');
  return Array.from({ length: count }, (_, i) => makers[task](drawOf(rng.at(i), documents), i));
}

function drawOf(rng: Rng, speeches: readonly string[]): Draw {
  let draws = 0;
  const next = (): Rng => rng.at(draws++);
  const index = (below: number): number => next().integers(1, below)[0];
  const one = <T>(among: readonly T[]): T => among[index(among.length)];
  return {
    index,
    one,
    several: (among, count) => Array.from(next().permutation(among.length).subarray(0, count), (i) => among[i]),
    speech(count) {
      const sentences = one(speeches).split(/(?<=\.) /);
      const start = index(Math.max(1, sentences.length - count));
      return sentences.slice(start, start + count).join(' ');
    },
  };
}
