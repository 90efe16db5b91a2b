// The activations of an MLP by the names that config.json files use.
import { gelu, geluTanh, relu, type Tensor } from '@lowbit/core';
import { requireSupported } from './config-source.js';

type Activation = (x: Tensor) => Tensor;

const activations: Readonly<Record<string, Activation>> = {
  relu,
  gelu,
  gelu_new: geluTanh,
  gelu_pytorch_tanh: geluTanh,
};

/** @throws MODEL_OPTION for one that is not computed. */
export function activationOf(name: string): Activation {
  requireSupported('activation_function', name, Object.keys(activations));
  return activations[name];
}
