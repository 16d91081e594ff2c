import { OttlaError } from '../../errors.js';
import { api, type Api, type Node } from '../protocol/api.js';
import { errorNumber, errorNumberOf, noError } from '../protocol/errors.js';
import { array, arrayOf, int16, int32, string, uuid, type Encodable } from '../protocol/schema.js';

const request = {
  topics: array(
    {
      name: string({ since: 6, nullable: 6, default: null }),
      topicId: uuid({ since: 6 }),
    },
    { since: 6 },
  ),
  topicNames: arrayOf(string(), { until: 5 }),
  timeoutMs: int32(),
};

const deleted = {
  name: string({ nullable: 6 }),
  topicId: uuid({ since: 6 }),
  errorCode: int16(),
  errorMessage: string({ since: 5, nullable: 5, default: null }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  responses: array(deleted),
};

export const deleteTopics: Api = api({
  key: 20,
  name: 'DeleteTopics',
  versions: [1, 6],
  flexible: 4,
  request,
  response,
  async handle({ topics, topicNames }, { node }) {
    const asked = [...topics, ...topicNames.map((name) => ({ name, topicId: noId }))];
    const responses = [];
    for (const { name, topicId } of asked) responses.push(await remove(node, name, topicId));
    return { responses };
  },
});

const noId = 'AAAAAAAAAAAAAAAAAAAAAA';

type Deleted = Encodable<typeof deleted>;

async function remove({ broker }: Node, asked: string | null, topicId: string): Promise<Deleted> {
  const found = asked ?? broker.topics.byId(topicId)?.name;
  if (found === undefined) {
    return { name: null, topicId, errorCode: errorNumber('UNKNOWN_TOPIC_ID') };
  }
  const id = broker.topics.find(found)?.id ?? noId;
  try {
    await broker.topics.delete(found);
    return { name: found, topicId: id, errorCode: noError };
  } catch (error) {
    const errorMessage = error instanceof OttlaError ? error.message : null;
    return { name: found, topicId: id, errorCode: errorNumberOf(error), errorMessage };
  }
}
