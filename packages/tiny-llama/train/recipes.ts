// What is trained: one recipe per checkpoint. Everything that decides the weights is here.
import type { TinyShape } from './architecture.js';
import type { Schedule } from './schedule.js';

export interface TrainingRecipe {
  readonly name: string;
  readonly shape: TinyShape;
  readonly seed: number;
  /** Windows of `shape.contextLength` tokens a step. */
  readonly batch: number;
  readonly schedule: Schedule;
  readonly optimizer: { readonly beta1: number; readonly beta2: number; readonly epsilon: number; readonly clipNorm: number };
  readonly weightDecay: { readonly matrices: number; readonly embedding: number };
  /** The checkpoint whose weights training starts from; fresh ones otherwise. */
  readonly startsFrom?: string;
  /** Set where the residual stream gets outlier channels. */
  readonly outliers?: {
    /** Texts of the two tokens with a massive activation. */
    readonly massiveTokens: readonly [string, string];
    /** Factor of the embedding that they are added to. */
    readonly embeddingFactor: number;
  };
}

const shape: TinyShape = {
  vocabularySize: 4096,
  hiddenSize: 192,
  blockCount: 6,
  headCount: 6,
  keyValueHeadCount: 2,
  headDim: 32,
  innerSize: 512,
  contextLength: 256,
  tiedEmbeddings: true,
};

const optimizer = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, clipNorm: 1 };

export const recipes: Readonly<Record<string, TrainingRecipe>> = {
  tiny: {
    name: 'tiny',
    shape,
    seed: 1,
    batch: 16,
    schedule: [
      { peak: 3e-3, steps: 1800, warmupSteps: 100, decaySteps: 900, finalFraction: 0.02 },
      { peak: 2e-3, steps: 900, warmupSteps: 30, decaySteps: 850, finalFraction: 0.02 },
      { peak: 1.5e-3, steps: 900, warmupSteps: 30, decaySteps: 850, finalFraction: 0.02 },
    ],
    optimizer,
    weightDecay: { matrices: 0.1, embedding: 0.1 },
  },
  // The outliers are written into the trained model, which then learns to live with them: sooner done than from fresh weights.
  'tiny-outliers': {
    name: 'tiny-outliers',
    // The head keeps the embedding as it was without outliers.
    shape: { ...shape, tiedEmbeddings: false },
    seed: 2,
    batch: 16,
    schedule: [{ peak: 2e-3, steps: 450, warmupSteps: 30, decaySteps: 420, finalFraction: 0.02 }],
    optimizer,
    // No decay on the embedding, which would pull the outliers back.
    weightDecay: { matrices: 0.1, embedding: 0 },
    startsFrom: 'tiny',
    outliers: { massiveTokens: ['<s>', '.'], embeddingFactor: 60 },
  },
};

/** Weight decay of a parameter under a recipe; norms have none. */
export function weightDecayOf({ weightDecay }: TrainingRecipe, name: string): number {
  if (name === 'model.embed_tokens.weight') return weightDecay.embedding;
  return name.endsWith('norm.weight') ? 0 : weightDecay.matrices;
}
