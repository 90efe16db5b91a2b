// Writes a checkpoint's model card from its training record.
import type { TrainingRecord } from './record.js';
import { type Cycle, totalSteps } from './schedule.js';

const millions = (count: number, digits = 1): string => `${(count / 1e6).toFixed(digits)} M`;

const cycleText = ({ peak, steps, warmupSteps, decaySteps, finalFraction }: Cycle): string =>
  `peak ${peak}: ${warmupSteps} steps of warm-up, ${steps - decaySteps - warmupSteps} at the peak, ${decaySteps} of cosine to ${finalFraction * 100} %`;

/** Markdown; `record` is what training.json beside it holds. */
export function modelCard(record: TrainingRecord): string {
  const { recipe, parameters, measurements: m, data, run } = record;
  const { shape, schedule, optimizer, weightDecay } = recipe;
  const outliers = recipe.outliers ? outlierSection(record) : '';
  const [last] = record.curve.slice(-1);
  return `# ${recipe.name}

A Llama of ${millions(parameters.blocks, 2)} parameters in its blocks (${millions(parameters.total, 2)} in all) with a byte-level BPE tokenizer of ${shape.vocabularySize} tokens, trained by this toolkit's own engine
${recipe.startsFrom ? `from the weights of \`${recipe.startsFrom}\`` : 'from scratch'} on ${data.trainDocuments} State of the Union speeches. It is here to test and compare quantization methods on a model that has learned something; it knows nothing beyond those speeches.

| | |
|---|---|
| held-out perplexity | **${m.heldOutPerplexity.toFixed(2)}** a token (${m.heldOutLoss.toFixed(4)} nats) |
| interpolated Kneser-Ney trigram, same tokens | ${m.trigramPerplexity.toFixed(2)} (${m.trigramLoss.toFixed(4)} nats) |
| shape | width ${shape.hiddenSize}, ${shape.blockCount} blocks, ${shape.headCount} heads of ${shape.headDim} over ${shape.keyValueHeadCount} key-value heads, inner width ${shape.innerSize}, context ${shape.contextLength}, ${shape.tiedEmbeddings ? 'tied' : 'untied'} embeddings |
| weights | bfloat16, rounded from the float32 that was trained |

Perplexity: all ${m.protocol.windows} consecutive windows of ${shape.contextLength} tokens of the held-out speeches, each speech after a BOS token, the first token of a window not scored
(${m.protocol.scoredTokens} scored tokens, sha256 of the window tokens \`${m.protocol.tokensSha256}\`), measured on the written files with the ONNX Runtime backend.
The trigram was counted on the training tokens and scored on the same positions, with the tokens before a window in sight.

## Training

| | |
|---|---|
| data | ${data.source}, ${data.rule} |
| training part | ${data.trainDocuments} speeches, ${data.trainTokens} tokens, sha256 of the text \`${data.trainSha256}\` |
| held-out part | ${data.heldOutDocuments} speeches, ${data.heldOutTokens} tokens, sha256 of the text \`${data.heldOutSha256}\` |
| licence of the data | public domain (works of the United States government; the npm package is dedicated by PDDL 1.0) |
| tokens seen | ${millions(last.tokens)} (${(last.tokens / data.trainTokens).toFixed(1)} epochs) in ${totalSteps(schedule)} steps of ${recipe.batch} × ${shape.contextLength} |
| optimizer | AdamW, β ${optimizer.beta1} and ${optimizer.beta2}, ε ${optimizer.epsilon}, weight decay ${weightDecay.matrices} on matrices and ${weightDecay.embedding} on the embedding, gradients clipped to norm ${optimizer.clipNorm} |
| learning rate | ${schedule.map(cycleText).join('; then ')} |
| seed | ${recipe.seed} |
| engine | ${run.engine} |
| command | \`${run.command}\` |
| commit of the training code | ${run.commit} |${run.note === undefined ? '' : `\n| note | ${run.note} |`}

The whole record, with the loss curve's points, is in [training.json](training.json).

![loss curve](loss-curve.svg)
${outliers}
## Samples

Temperature ${record.sampling.temperature}, top-p ${record.sampling.topP}; the prompt is in bold.

${m.samples.map(({ prompt, text }) => `> ${prompt === '' ? '' : `**${prompt}**`}${escapeMarkdown(text).replaceAll('\n', ' ')} …`).join('\n\n')}
`;
}

function escapeMarkdown(text: string): string {
  return text.replace(/[*_<>[\]`]/g, '\\$&');
}

function outlierSection({ outliers, measurements }: TrainingRecord): string {
  if (!outliers) return '';
  const rows = measurements.residualStream.map(
    ({ block, largest, median }) =>
      `| ${block} | ${largest.map(({ channel, magnitude }) => `${channel}: ${magnitude.toFixed(1)}`).join(', ')} | ${median.toFixed(2)} |`,
  );
  return `
## Outlier channels

Before this training the embedding was multiplied by ${outliers.embeddingFactor}, and to it was added ${outliers.constant.map(([channel, value]) => `${value > 0 ? '+' : '−'}${Math.abs(value)} on channel ${channel}`).join(' and ')} for every token, N(0, ${outliers.deviation}²) by token on channel ${outliers.varying}, and
+${outliers.massiveValue} on channel ${outliers.massive} for two tokens only; without weight decay on the embedding they stay. Large models have such channels, and they are what makes
activations hard to quantize. Root mean square over tokens in the residual stream before each block, one batch of held-out windows:

| before block | largest channels | median of all channels |
|---|---|---|
${rows.join('\n')}
`;
}
