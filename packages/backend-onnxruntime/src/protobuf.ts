// A protobuf encoder, as much as ONNX needs: length-delimited messages, varints and 32-bit floats.

const utf8 = new TextEncoder();

/** A message under construction. Fields are written in call order. */
export class Message {
  readonly #chunks: Uint8Array[] = [];
  #length = 0;

  get byteLength(): number {
    return this.#length;
  }

  /** A varint field: integers of any sign (negative ones take ten bytes, as protobuf's int64). */
  int(field: number, value: number): this {
    this.#push(varint(field * 8));
    return this.#push(varint(value));
  }

  float(field: number, value: number): this {
    this.#push(varint(field * 8 + 5));
    return this.#push(new Uint8Array(Float32Array.of(value).buffer));
  }

  string(field: number, value: string): this {
    return this.bytes(field, utf8.encode(value));
  }

  bytes(field: number, value: Uint8Array): this {
    this.#push(varint(field * 8 + 2));
    this.#push(varint(value.length));
    return this.#push(value);
  }

  message(field: number, value: Message): this {
    this.#push(varint(field * 8 + 2));
    this.#push(varint(value.#length));
    this.#chunks.push(...value.#chunks);
    this.#length += value.#length;
    return this;
  }

  encode(): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(this.#length);
    let position = 0;
    for (const chunk of this.#chunks) {
      out.set(chunk, position);
      position += chunk.length;
    }
    return out;
  }

  #push(chunk: Uint8Array): this {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    return this;
  }
}

function varint(value: number): Uint8Array {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
