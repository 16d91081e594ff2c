import { defineConfig } from 'oxlint';
import { layerOverrides } from './tools/layers.mjs';

export default defineConfig({
  plugins: ['typescript', 'import', 'unicorn', 'oxc', 'vitest'],
  categories: { correctness: 'error', suspicious: 'error' },
  options: { typeAware: true, denyWarnings: true, reportUnusedDisableDirectives: 'error' },
  ignorePatterns: ['dist', 'build', 'coverage', 'test/fixtures', 'test/interop/kafka'],
  rules: {
    // fast-check is used as its own documentation does: `fc.assert`, `fc.integer`.
    'import/no-named-as-default-member': 'off',
    'import/no-cycle': ['error', { ignoreTypes: false }],
    // Narrowing by assertion is what a boundary does after it has checked; `any` stays forbidden.
    'typescript/no-unsafe-type-assertion': 'off',
    'typescript/await-thenable': 'error',
    'typescript/consistent-type-imports': 'error',
    'typescript/no-deprecated': 'error',
    'typescript/no-explicit-any': 'error',
    'typescript/no-floating-promises': [
      'error',
      { allowForKnownSafeCalls: [{ from: 'package', name: 'test', package: 'node:test' }] },
    ],
    'typescript/no-misused-promises': 'error',
    'typescript/no-unsafe-member-access': 'error',
    'typescript/no-unsafe-return': 'error',
    'typescript/return-await': 'error',
    'typescript/switch-exhaustiveness-check': 'error',
    'unicorn/prefer-node-protocol': 'error',
  },
  overrides: [
    ...layerOverrides,
    {
      // A test's helper stands where it is read, and may hold its assertions.
      files: ['test/**'],
      rules: {
        'unicorn/consistent-function-scoping': 'off',
        'vitest/expect-expect': ['error', { assertFunctionNames: ['expect*', 'fc.assert'] }],
      },
    },
    {
      // Plain JavaScript, for Node 20 to run as it stands: there are no types to be strict about.
      files: ['**/*.mjs'],
      rules: {
        'typescript/no-unsafe-member-access': 'off',
        'typescript/no-unsafe-return': 'off',
      },
    },
  ],
});
