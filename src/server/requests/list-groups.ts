import { api, type Api } from '../protocol/api.js';
import { noError } from '../protocol/errors.js';
import { array, arrayOf, int16, int32, string } from '../protocol/schema.js';

const request = {
  statesFilter: arrayOf(string(), { since: 4 }),
  typesFilter: arrayOf(string(), { since: 5 }),
};

const response = {
  throttleTimeMs: int32({ since: 1, default: 0 }),
  errorCode: int16(),
  groups: array({
    groupId: string(),
    protocolType: string(),
    groupState: string({ since: 4 }),
    groupType: string({ since: 5 }),
  }),
};

export const listGroups: Api = api({
  key: 16,
  name: 'ListGroups',
  versions: [0, 5],
  flexible: 3,
  request,
  response,
  handle({ statesFilter, typesFilter }, { node }) {
    const { groups, coordinator } = node.broker;
    const found = [...groups.groupIds()].map((groupId) => {
      const members = coordinator.describeInBytes(groupId);
      return {
        groupId,
        protocolType: members?.protocolType ?? groups.protocolTypeOf(groupId),
        groupState: members?.state ?? coordinator.describeConsumers(groupId)?.state ?? 'Empty',
        groupType: groups.typeOf(groupId),
      };
    });
    return {
      errorCode: noError,
      groups: found.filter(
        ({ groupState, groupType }) =>
          isAsked(statesFilter, groupState) && isAsked(typesFilter, groupType),
      ),
    };
  },
});

/** Case does not count: Kafka's brokers tell states so as well. */
function isAsked(filter: readonly string[], value: string): boolean {
  return filter.length === 0 || filter.some((each) => each.toLowerCase() === value.toLowerCase());
}
