// What a model's checkpoint weighs, from shapes alone.
import { DenseLinear, type Linear, type LinearState, type Model, type Norm } from '@lowbit/core';
import { LowRankLinear } from '@lowbit/quant';

/**
 * Bits of all tensors: codes, scales and offsets of the blocks' Linears, embedding, head, norms and biases, the latter with the bits
 * of the head's elements if that is dense, else 16. Adapters do not count.
 */
export function checkpointBits({ embedding, blocks, norm, head }: Model): number {
  const isTied = head instanceof DenseLinear && head.weight === embedding.weight;
  const elementBits = head instanceof DenseLinear ? head.bitsPerElement : 16;
  const linears = blocks.flatMap((block) => Object.values(block.linears));
  const norms = [...blocks.flatMap((block) => Object.values(block.norms)), norm];
  const elements = total(norms.map(normSize)) + total([...linears, head].map((linear) => biasSize(linear.state()))) + embedding.size;
  return elements * elementBits + total(linears.map(bitsWithoutAdapters)) + (isTied ? 0 : bitsWithoutAdapters(head));
}

function bitsWithoutAdapters(linear: Linear): number {
  return linear.storageBits - adapterBits(linear);
}

/** Bits of all adapters of a Linear, those on adapters and behind wrappers too. */
function adapterBits(linear: Linear): number {
  if (linear instanceof LowRankLinear) return linear.storageBits - linear.base.storageBits + adapterBits(linear.base);
  return linear.quantizable ? adapterBits(linear.quantizable.linear) : 0;
}

function normSize({ weight, bias }: Norm): number {
  return (weight?.size ?? 0) + (bias?.size ?? 0);
}

function biasSize({ tensors, parts = {} }: LinearState): number {
  return (tensors['bias']?.size ?? 0) + total(Object.values(parts).map(biasSize));
}

function total(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
