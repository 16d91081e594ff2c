import { configDefaults, type ViteUserConfig } from 'vitest/config';

const config: ViteUserConfig = {
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, 'test/fixtures/**', 'test/interop/**'],
    pool: 'forks',
    isolate: false,
    // One fewer, the default, leaves half of a machine with two cores idle.
    maxWorkers: '100%',
    // Against a hang, not a bound on speed: a loaded machine takes its time.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    reporters: ['default', './tools/closing-line.ts'],
    coverage: { provider: 'v8', include: ['src/**'] },
  },
};

export default config;
