export { FaultInjector } from './fault-injector.js';
export type {
  FailureOptions,
  FaultTarget,
  FaultyOperation,
  HeldOperation,
} from './fault-injector.js';
export { testDirectory, testOttla } from './fixture.js';
export type { TestContext, TestOttla } from './fixture.js';
export { Gate } from './gate.js';
export { VirtualClock } from './virtual-clock.js';
export type { VirtualClockOptions } from './virtual-clock.js';
