// @lowbit/train: optimizers as graphs, learning rate schedules, and the training loop that methods share.
export {};
