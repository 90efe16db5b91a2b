// Numbers that updates keep for every element from step to step.

/** By name, zeros at first. */
export interface Slots {
  float32(name: string): Float32Array;
  int16(name: string): Int16Array;
  /** What all of them lie in. */
  buffers(): readonly ArrayBufferLike[];
}

export function createSlots(size: number): Slots {
  const [floats, shorts] = [new Map<string, Float32Array>(), new Map<string, Int16Array>()];
  return {
    float32: (name) => kept(floats, name, () => new Float32Array(size)),
    int16: (name) => kept(shorts, name, () => new Int16Array(size)),
    buffers: () => [...floats.values(), ...shorts.values()].map(({ buffer }) => buffer),
  };
}

function kept<T>(byName: Map<string, T>, name: string, make: () => T): T {
  const known = byName.get(name);
  if (known) return known;
  const made = make();
  byName.set(name, made);
  return made;
}
