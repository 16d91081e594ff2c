import type { ViteUserConfig } from 'vitest/config';

/** Tests against Apache Kafka's own tools and clients: slow, and they need Java. */
const config: ViteUserConfig = {
  test: {
    include: ['test/interop/**/*.test.ts'],
    pool: 'forks',
    isolate: false,
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ['default', './tools/closing-line.ts'],
  },
};

export default config;
