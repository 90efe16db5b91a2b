// The figures of experiments that compare variants by name.
import { means, panels, type Specification } from '@lowbit/core/experiments';

interface Dots {
  /** Field with a row of panels for each of its values. */
  readonly row?: Specification;
  /** Told apart by colour. */
  readonly color?: Specification;
}

/** The added loss of each value of `field` as a dot. */
export function gapDots(field: string, order: readonly string[], { row, color }: Dots = {}): Specification {
  const dots = means('x', 'point', {
    x: { field: 'loss-gap', title: 'added loss, nats per token', scale: { zero: false, padding: 12 } },
    y: { field, type: 'nominal', title: null, sort: order, axis: { labelLimit: 260 } },
    ...(color && { color }),
  });
  return panels(dots, { ...(row && { row }), independent: ['x'], height: 20 * order.length });
}

/** Several measures as rows of panels, each with a dot for each value of `field`. */
export function measureDots(measures: readonly string[], field: string, order: readonly string[]): Specification {
  const dots = means('x', 'point', {
    x: { field: 'value', title: null, scale: { zero: false, padding: 12 } },
    y: { field, type: 'nominal', title: null, sort: order, axis: { labelLimit: 260 } },
  });
  return {
    transform: [{ fold: measures, as: ['measure', 'value'] }, { filter: 'isValid(datum.value)' }],
    ...panels(dots, { row: { field: 'measure', sort: measures }, independent: ['x'], height: 20 * order.length }),
  };
}
