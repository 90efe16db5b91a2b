// Finds a key that a JSON object has twice. JSON.parse keeps the last one in silence, which would hide a tensor.

/** The first key that occurs twice in one object of `json`, which must be valid JSON; undefined when there is none. */
export function duplicateKey(json: string): string | undefined {
  const open: (Set<string> | undefined)[] = []; // keys of each open object; undefined for an open array
  let last: string | undefined; // the string that ended last, a key when a colon follows
  for (let at = 0; at < json.length; at++) {
    switch (json[at]) {
      case '"': {
        const start = at++;
        while (json[at] !== '"') at += json[at] === '\\' ? 2 : 1;
        last = json.slice(start, at + 1);
        break;
      }
      case ':': {
        const key = JSON.parse(last as string) as string;
        const keys = open.at(-1);
        if (keys?.has(key)) return key;
        keys?.add(key);
        break;
      }
      case '{':
        open.push(new Set());
        break;
      case '[':
        open.push(undefined);
        break;
      case '}':
      case ']':
        open.pop();
        break;
    }
  }
  return undefined;
}
