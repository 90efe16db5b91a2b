// Set up before every test file: properties are tried on the same values in every run, so that a check of one commit ends as the last did.
// Other values: LOWBIT_TEST_SEED=$RANDOM pnpm test.
import fc from 'fast-check';

fc.configureGlobal({ seed: Number(process.env['LOWBIT_TEST_SEED'] ?? 0) });
