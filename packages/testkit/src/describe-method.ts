// The contract of a method as tests: options, targets, determinism, cancellation, storage, on a toy model.
import { createHash } from 'node:crypto';
import {
  type Backend,
  createRng,
  type Linear,
  type LinearKinds,
  type LinearState,
  type Method,
  type Model,
  type Recipe,
  type RunEvent,
  read,
  restoreLinear,
  roundToFloat16,
  type Step,
  type TensorMap,
  type TokenBatches,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createToyModel, createToyTokens } from './toy-model.js';

/** What the suite needs of `quantize` of @lowbit/pipeline. It is handed in, so that the runner's own tests can use the suite. */
export type QuantizeFunction = (options: {
  readonly model: Model;
  readonly backend: Backend;
  readonly recipe: Recipe;
  readonly calibration: TokenBatches;
  readonly seed: number;
  readonly onEvent?: (event: RunEvent) => void;
  readonly signal?: AbortSignal;
}) => Promise<{ readonly model: Model }>;

export interface DescribeMethodOptions<Options> {
  readonly quantize: QuantizeFunction;
  readonly createBackend: () => Promise<Backend> | Backend;
  /** Options that suit the toy model and finish quickly. Its Linears have 32 and 48 inputs. */
  readonly options?: Options;
  /** Options that must give a Linear other weights. The override test is left out without them. */
  readonly override?: Partial<Options>;
  /** Restorers of the Linears that the method makes. */
  readonly kinds?: LinearKinds;
  /** Steps that come before it in the recipe, for methods that work on quantized models. */
  readonly prepare?: Recipe;
  /** Default: two blocks, with outlier channels and biases. */
  readonly model?: Model;
  readonly calibration?: TokenBatches;
}

/** Runs the conformance suite of a method. Call it at the top level of a test file. */
export function describeMethod<Schema extends Method['definition']['options']>(
  method: Method<Schema>,
  settings: DescribeMethodOptions<NonNullable<Parameters<Method<Schema>>[0]>>,
): void {
  const { definition } = method;
  const { quantize, createBackend, options, override, kinds = {}, prepare = [] } = settings;
  const calibration = settings.calibration ?? createToyTokens({ seed: 11 });
  const step = (more: object = {}): Step => (method as unknown as (input: object) => Step)({ ...(options as object | undefined), ...more });

  describe(`method ${definition.name}`, () => {
    let backend: Backend;
    let given: Model;
    /** The model as the method is given it. */
    let before: Model;
    let complete: Model;
    /** The last Linear of each block: a part of the model, by exact path. */
    let targets: string[];
    beforeAll(async () => {
      backend = await createBackend();
      given = settings.model ?? createToyModel({ seed: 7, biases: true, outliers: 2 });
      before = prepare.length > 0 ? (await apply(prepare)).model : given;
      targets = before.blocks.map((block) => `${block.path}.${block.groups.at(-1)?.linears.at(-1)}`);
      complete = await run(step());
    });
    afterAll(() => backend.dispose());

    const apply = (recipe: Recipe, more: Partial<Parameters<QuantizeFunction>[0]> = {}): ReturnType<QuantizeFunction> =>
      quantize({ model: given, backend, recipe, calibration, seed: 1, ...more });
    const run = async (last: Step): Promise<Model> => (await apply([...prepare, last])).model;
    const outcome = (onEvent: (event: RunEvent) => void, signal: AbortSignal): Promise<unknown> =>
      apply([...prepare, step()], { onEvent, signal }).then(
        () => 'ran to its end',
        (error: unknown) => error,
      );

    it('has a name, a version and some stage', () => {
      expect(definition.name).toMatch(/^[a-z][a-z0-9-]*$/);
      expect(Number.isInteger(definition.version) && definition.version >= 1).toBe(true);
      expect(definition.transform ?? definition.quantizeLinear ?? definition.refineBlock ?? definition.finetune).toBeTypeOf('function');
    });

    it('refuses an unknown option by name', () => {
      const message = expect.stringMatching(new RegExp(`${definition.name}.*noSuchOption`, 's'));
      expect(() => step({ noSuchOption: 1 })).toThrow(expect.objectContaining({ code: 'OPTIONS_INVALID', message }));
    });

    const takesTargets = Boolean(definition.quantizeLinear ?? definition.refineBlock ?? definition.finetune);
    it.runIf(takesTargets)('changes every Linear that it targets, and no other', async () => {
      const narrowed = linearsOf(await run(step({ targets })));
      expect([...narrowed.keys()]).toEqual([...linearsOf(before).keys()]);
      for (const [path, linear] of linearsOf(before)) {
        const isSame = (await fingerprint(narrowed.get(path)!)) === (await fingerprint(linear));
        if (targets.includes(path)) expect(isSame, `${path} is targeted and did not change`).toBe(false);
        // A transform rewrites the whole model.
        else if (!definition.transform) expect(isSame, `${path} is not targeted and changed`).toBe(true);
        expect(await fingerprint(linearsOf(complete).get(path)!), path).not.toBe(await fingerprint(linear));
      }
    });

    it.skipIf(takesTargets)('changes every Linear, and refuses targets', async () => {
      for (const [path, linear] of linearsOf(before)) {
        expect(await fingerprint(linearsOf(complete).get(path)!), path).not.toBe(await fingerprint(linear));
      }
      await expect(run(step({ targets }))).rejects.toMatchObject({ code: 'TARGETS_UNUSED' });
    });

    if (override !== undefined) {
      it('works on a Linear with its override', async () => {
        const special = linearsOf(await run(step({ overrides: { [targets[0]]: override } })));
        expect(await fingerprint(special.get(targets[0])!)).not.toBe(await fingerprint(linearsOf(complete).get(targets[0])!));
      });
    }

    it('gives the same bytes for the same seed', async () => {
      expect(await fingerprint(await run(step()))).toBe(await fingerprint(complete));
    });

    it('leaves the given model as it was', async () => {
      const was = await fingerprint(given);
      await run(step());
      expect(await fingerprint(given)).toBe(was);
    });

    it('gives a model with finite outputs', async () => {
      const tokens = await calibration.at(0);
      const [logits] = await backend.evaluate([complete.forward(tokens)]);
      expect(logits.shape).toEqual([...tokens.shape, before.config.vocabularySize]);
      expect((await read(logits)).every(Number.isFinite)).toBe(true);
    });

    it('makes Linears that restore from their state, bit for bit', async () => {
      for (const [path, linear] of linearsOf(complete)) {
        const state = throughJson(linear.state());
        const restored = restoreLinear(state, kinds);
        expect([restored.kind, restored.inFeatures, restored.outFeatures, restored.storageBits], path).toEqual([
          linear.kind,
          linear.inFeatures,
          linear.outFeatures,
          linear.storageBits,
        ]);
        const x = tensor(
          createRng(3)
            .at(path)
            .normal(5 * linear.inFeatures),
          [5, linear.inFeatures],
        );
        const [expected, actual] = await backend.evaluate([linear.forward(x), restored.forward(x)]);
        expect(await read(actual), path).toEqual(await read(expected));
        await expectStorable(state, path);
      }
    });

    if (definition.quantizeLinear) {
      it('stores no more bits than a dense layer', () => {
        for (const [path, { storageBits, inFeatures, outFeatures }] of linearsOf(complete)) {
          expect(storageBits, path).toBeGreaterThan(0);
          expect(storageBits, path).toBeLessThanOrEqual(16 * inFeatures * outFeatures);
        }
      });
    }

    it('stops when the signal is aborted, before and on the way', async () => {
      expect(await outcome(() => {}, AbortSignal.abort())).toMatchObject({ code: 'ABORTED' });
      for (const type of ['step-start', ...(definition.quantizeLinear ? ['linear-done' as const] : [])] as const) {
        const controller = new AbortController();
        const onEvent = (event: RunEvent): void => {
          if (event.type === type && event.step === prepare.length) controller.abort();
        };
        expect(await outcome(onEvent, controller.signal), `aborted at the first ${type}`).toMatchObject({ code: 'ABORTED' });
      }
    });
  });
}

function linearsOf(model: Model): Map<string, Linear> {
  return new Map(
    model.blocks.flatMap((block) =>
      Object.entries(block.linears).map(([name, linear]): [string, Linear] => [`${block.path}.${name}`, linear]),
    ),
  );
}

/** sha256 over every tensor of a tree: name, type, shape, elements. */
async function fingerprint(tree: { map(map: TensorMap): unknown }): Promise<string> {
  const hash = createHash('sha256');
  for (const [name, t] of tensorsOf(tree)) {
    const data = await read(t);
    hash.update(`${name}|${t.dtype}|${t.shape.join('x')}|`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}

/** The state as it comes back from a file: everything but the tensors has been JSON. */
function throughJson({ tensors, parts, ...rest }: LinearState): LinearState {
  const restoredParts = parts && Object.fromEntries(Object.entries(parts).map(([role, part]) => [role, throughJson(part)]));
  return {
    ...(JSON.parse(JSON.stringify(rest)) as Omit<LinearState, 'tensors' | 'parts'>),
    tensors,
    ...(restoredParts && { parts: restoredParts }),
  };
}

/** What a state says of its tensors holds: codes fit their bits, values said to be float16 are. */
async function expectStorable({ tensors, packedBits = {}, half = [], parts = {} }: LinearState, path: string): Promise<void> {
  for (const [name, bits] of Object.entries(packedBits)) {
    const values = await read(tensors[name]);
    let [low, high] = [0, 0];
    for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
    expect(high - low, `${path}.${name} does not fit ${bits} bits`).toBeLessThan(2 ** bits);
  }
  for (const name of half) {
    expect(
      (await read(tensors[name])).every((value) => roundToFloat16(value) === value),
      `${path}.${name} is not float16`,
    ).toBe(true);
  }
  for (const [role, part] of Object.entries(parts)) await expectStorable(part, `${path}.${role}`);
}
