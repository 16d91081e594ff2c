import { OttlaError } from '../errors.js';
import { errorNumber, errorNumberOf } from './protocol/errors.js';

/**
 * The number of what a coordinator failed with. Kafka's never tells of its storage: clients look for another
 * coordinator then, and find this one again. Those that are older than PRODUCER_FENCED know its forerunner.
 * @throws what is none: a defect of ours
 */
export function coordinatorErrorNumberOf(error: unknown, knowsFenced: boolean = true): number {
  if (error instanceof OttlaError) {
    if (error.code === 'KAFKA_STORAGE_ERROR') return errorNumber('COORDINATOR_NOT_AVAILABLE');
    if (error.code === 'CLOSED') return errorNumber('COORDINATOR_NOT_AVAILABLE');
    if (error.code === 'PRODUCER_FENCED' && !knowsFenced) {
      return errorNumber('INVALID_PRODUCER_EPOCH');
    }
  }
  return errorNumberOf(error);
}
