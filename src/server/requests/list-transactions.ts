import { RegularExpression } from '../../regular-expression.js';
import { transactionStates } from '../../transaction-description.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { array, arrayOf, bigint64, int16, int32, int64, string } from '../protocol/schema.js';

const request = {
  stateFilters: arrayOf(string()),
  producerIdFilters: arrayOf(bigint64()),
  durationFilter: int64({ since: 1, default: -1 }),
  transactionalIdPattern: string({ since: 2, nullable: 2 }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  errorCode: int16(),
  unknownStateFilters: arrayOf(string(), { default: [] }),
  transactionStates: array({
    transactionalId: string(),
    producerId: bigint64(),
    transactionState: string(),
  }),
};

export const listTransactions: Api = api({
  key: 66,
  name: 'ListTransactions',
  versions: [0, 2],
  flexible: 0,
  request,
  response,
  handle(asked, { node: { broker } }) {
    const { stateFilters, producerIdFilters, durationFilter, transactionalIdPattern } = asked;
    let pattern: RegularExpression | null;
    try {
      pattern = transactionalIdPattern ? new RegularExpression(transactionalIdPattern) : null;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return { errorCode: errorNumber('INVALID_REGULAR_EXPRESSION'), transactionStates: [] };
    }
    const now = broker.clock.now();
    const found = broker.transactions
      .list()
      .filter(
        ({ transactionalId, producerId, state, startedAt }) =>
          (stateFilters.length === 0 || stateFilters.includes(state)) &&
          (producerIdFilters.length === 0 || producerIdFilters.includes(producerId)) &&
          (durationFilter < 0 || now - startedAt > durationFilter) &&
          (pattern === null || pattern.matches(transactionalId)),
      );
    return {
      errorCode: noError,
      unknownStateFilters: stateFilters.filter(
        (name) => !transactionStates.some((state) => state === name),
      ),
      transactionStates: found.map(({ transactionalId, producerId, state }) => ({
        transactionalId,
        producerId,
        transactionState: state,
      })),
    };
  },
});
