// Numbers that updates keep for every element from step to step.

/** By name, zeros at first. */
export interface Slots {
  float32(name: string): Float32Array;
  int16(name: string): Int16Array;
}

export function createSlots(size: number): Slots {
  return { float32: kept((length) => new Float32Array(length), size), int16: kept((length) => new Int16Array(length), size) };
}

function kept<T>(make: (size: number) => T, size: number): (name: string) => T {
  const byName = new Map<string, T>();
  return (name) => {
    const known = byName.get(name);
    if (known) return known;
    const made = make(size);
    byName.set(name, made);
    return made;
  };
}
