// Set up before every test file: whatever writes to the console fails the test it runs in. Libraries print nothing.
for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const) {
  console[method] = (...values: unknown[]) => {
    throw new Error(`console.${method} was called in a test: ${values.map(String).join(' ')}`);
  };
}
