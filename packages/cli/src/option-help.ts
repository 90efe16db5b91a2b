// A method's options as help text, read from its schema.
import type { MethodDefinition } from '@lowbit/core';

/** The part of JSON Schema that options are described by. */
interface SchemaNode {
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly SchemaNode[];
  readonly default?: unknown;
  readonly description?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly items?: SchemaNode;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: unknown;
}

/** One option of a method. */
export interface OptionDescription {
  readonly name: string;
  /** 'integer 1…8', "'minmax' | 'mse'". */
  readonly type: string;
  /** As it would be written; undefined when the option has none. */
  readonly default: string | undefined;
  readonly isRequired: boolean;
  readonly description: string;
}

/** The options of a method; undefined when its schema library cannot describe itself (Standard JSON Schema). */
export function describeOptions(definition: MethodDefinition): OptionDescription[] | undefined {
  const schema = jsonSchemaOf(definition);
  if (!schema) return undefined;
  return Object.entries(schema.properties ?? {}).map(([name, node]) => ({
    name,
    type: describeType(node),
    default: node.default === undefined ? undefined : JSON.stringify(node.default),
    isRequired: schema.required?.includes(name) ?? false,
    description: node.description ?? '',
  }));
}

/** Whether names that the schema does not list may be options as well. */
export function takesOtherOptions(definition: MethodDefinition): boolean {
  return jsonSchemaOf(definition)?.additionalProperties !== false;
}

function jsonSchemaOf(definition: MethodDefinition): SchemaNode | undefined {
  const standard = definition.options['~standard'] as { jsonSchema?: { input(options: { target: string }): Record<string, unknown> } };
  try {
    return standard.jsonSchema?.input({ target: 'draft-2020-12' }) as SchemaNode | undefined;
  } catch {
    // JSON Schema has no words for some types; the specification lets a library throw for them.
    return undefined;
  }
}

function describeType(node: SchemaNode): string {
  if (node.anyOf) return node.anyOf.map(describeType).join(' | ');
  if (node.enum) return node.enum.map((value) => JSON.stringify(value)).join(' | ');
  if (node.const !== undefined) return JSON.stringify(node.const);
  const type = typeof node.type === 'string' ? node.type : (node.type ?? ['any']).join(' | ');
  if (type === 'array') return `list of ${node.items ? describeType(node.items) : 'any'}`;
  return `${type}${describeRange(node)}`;
}

/** Bounds that say something: zod writes the safe integers as bounds of every integer. */
function describeRange(node: SchemaNode): string {
  const isBound = (bound: number | undefined): bound is number => bound !== undefined && Math.abs(bound) < Number.MAX_SAFE_INTEGER;
  const low = isBound(node.minimum) ? `≥ ${node.minimum}` : isBound(node.exclusiveMinimum) ? `> ${node.exclusiveMinimum}` : '';
  const high = isBound(node.maximum) ? `≤ ${node.maximum}` : isBound(node.exclusiveMaximum) ? `< ${node.exclusiveMaximum}` : '';
  if (isBound(node.minimum) && isBound(node.maximum)) return ` ${node.minimum} to ${node.maximum}`;
  return [low, high]
    .filter(Boolean)
    .map((bound) => ` ${bound}`)
    .join(',');
}

/** Help lines of a method: its name and line, then one line an option. */
export function methodHelp(definition: MethodDefinition): string {
  const options = describeOptions(definition);
  const title = `${definition.name} (version ${definition.version})${definition.description ? `: ${definition.description}` : ''}`;
  if (!options) return `${title}\n  its schema does not describe its options`;
  if (options.length === 0) return `${title}\n  no options`;
  const types = options.map(
    ({ type, isRequired, default: value }) => `${type}${isRequired ? ', required' : value === undefined ? '' : ` = ${value}`}`,
  );
  const nameWidth = Math.max(...options.map(({ name }) => name.length));
  const typeWidth = Math.min(36, Math.max(...types.map((type) => type.length)));
  const lines = options.map(({ name, description }, i) =>
    `  ${name.padEnd(nameWidth)}  ${types[i].padEnd(typeWidth)}  ${description}`.trimEnd(),
  );
  return [title, ...lines].join('\n');
}
