// How quantized layers are computed: the option of commands that run a model.
import { LowbitError, type Model } from '@lowbit/core';
import { integerExecution, type SimulatedLinear } from '@lowbit/models';
import { type Command, Option } from 'commander';

export interface ExecutionArguments {
  readonly execution: 'simulated' | 'integer';
}

export function addExecutionOption(command: Command): Command {
  return command.addOption(
    new Option('--execution <how>', 'how layers with quantized weights and activations multiply: floats that codes stand for, or the codes')
      .choices(['simulated', 'integer'])
      .default('simulated'),
  );
}

/**
 * The model as it is to be executed, and what to say about that.
 * @throws EXECUTION_INTEGER when no layer can be computed in integers.
 */
export function withExecution(model: Model, name: string, { execution }: ExecutionArguments): { model: Model; note?: string } {
  if (execution === 'simulated') return { model };
  const { integer, simulated, ...executed } = integerExecution(model);
  if (integer.length === 0) {
    throw new LowbitError(
      'EXECUTION_INTEGER',
      `${name}: no layer can run in integers: ${reasons(simulated)}; quantize inputs to at most 8 bits with one scale a token and weights with one scale an output (groupSize -1), or use --execution simulated`,
    );
  }
  const rest = simulated.length === 0 ? '' : `; simulated: ${reasons(simulated)}`;
  return { model: executed.model, note: `${integer.length} of ${integer.length + simulated.length} layers run in integers${rest}` };
}

/** Each reason once, with the first of its layers. */
function reasons(simulated: readonly SimulatedLinear[]): string {
  const paths = new Map<string, string[]>();
  for (const { path, reason } of simulated) paths.set(reason, [...(paths.get(reason) ?? []), path]);
  return [...paths]
    .map(([reason, [first, ...others]]) => `${first}${others.length > 0 ? ` and ${others.length} more` : ''} (${reason})`)
    .join(', ');
}
