// The figure of the experiments that compare variants by name.
import { means, panels, type Specification } from '@lowbit/core/experiments';

/** The added loss of each value of `field` as a dot; with `row`, one row of panels for each value of another. */
export function gapDots(field: string, order: readonly string[], row?: Specification): Specification {
  const dots = means('x', 'point', {
    x: { field: 'loss-gap', title: 'added loss, nats per token', scale: { zero: false, padding: 12 } },
    y: { field, type: 'nominal', title: null, sort: order, axis: { labelLimit: 260 } },
  });
  return panels(dots, { ...(row && { row }), independent: ['x'], height: 20 * order.length });
}
