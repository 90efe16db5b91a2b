// A corrected model and its dense original in memory, with what they share held once.
import { type Model, materialize, type TensorMap } from '@lowbit/core';

interface Pair {
  readonly student: Model;
  readonly dense: Model;
  map(map: TensorMap): Pair;
}

/** Two models as one tree. */
function pairOf(student: Model, dense: Model): Pair {
  return {
    student,
    dense,
    map: (map) =>
      pairOf(
        student.map(map),
        dense.map((t, name) => map(t, `dense.${name}`)),
      ),
  };
}

/** Both models with every tensor in memory. A leaf of both (embedding, last norm, head) is read once and stays one leaf. */
export async function materializeBoth(student: Model, dense: Model): Promise<{ readonly student: Model; readonly dense: Model }> {
  return materialize(pairOf(student, dense));
}
