import { OttlaError } from '../../errors.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, errorNumberOf, noError } from '../protocol/errors.js';
import { array, arrayOf, int16, int32, string } from '../protocol/schema.js';

const request = { groupsNames: arrayOf(string()) };

const response = {
  throttleTimeMs: int32({ default: 0 }),
  results: array({ groupId: string(), errorCode: int16() }),
};

export const deleteGroups: Api = api({
  key: 42,
  name: 'DeleteGroups',
  versions: [0, 2],
  flexible: 2,
  request,
  response,
  async handle({ groupsNames }, { node }) {
    const remove = async (groupId: string): Promise<number> => {
      if (groupId === '') return errorNumber('INVALID_GROUP_ID');
      try {
        await node.broker.groups.delete(groupId);
        return noError;
      } catch (error) {
        if (error instanceof OttlaError) return errorNumberOf(error);
        throw error;
      }
    };
    const results = groupsNames.map(async (groupId) => ({
      groupId,
      errorCode: await remove(groupId),
    }));
    return { results: await Promise.all(results) };
  },
});
