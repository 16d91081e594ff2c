export { serve } from './serve.js';
export type { Server, SocketRequest } from './serve.js';
export type { ServeLimits, ServeOptions } from './options.js';
export type { SaslMechanism, SaslOptions } from './protocol/sasl.js';
