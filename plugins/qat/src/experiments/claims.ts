// The comparison that most claims of this package are about.
import { ascends, type Comparison } from '@lowbit/core/experiments';

/** Each arm adds less loss than the next, in every seed. */
export function ascending(subject: string, arms: Comparison['arms']): Comparison {
  return { subject, arms, holds: ascends };
}
