// What is trained, and on what loss.
import { crossEntropy, type Model, mean, slice, type Tensor, tensorsOf } from '@lowbit/core';

/** Trainable tensors by name; tied ones once. */
export function parametersOf(model: Model): Map<string, Tensor> {
  return tensorsOf(model);
}

/** Mean cross-entropy of predicting each window's next tokens: int32 [batch, tokens + 1] → scalar. */
export function windowLoss(model: Model, windows: Tensor): Tensor {
  const tokens = windows.shape[1] - 1;
  return mean(crossEntropy(model.forward(slice(windows, 1, 0, tokens)), slice(windows, 1, 1, tokens + 1)));
}
