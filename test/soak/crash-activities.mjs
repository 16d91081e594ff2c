/** Tells what a process is in the middle of, of what goes on behind the public API. */

/**
 * Wraps the methods that do the work.
 * @param entry URL of the built index.js, whose modules are not loaded yet by anybody else
 * @param tell called with '+' or '-' and the activity when one begins or ends
 * @returns what frees segments at once, as the timers would in five minutes
 */
export async function watchActivities(entry, tell) {
  const from = (module) => import(new URL(module, entry).href);
  const { OffsetStore } = await from('offsets.js');
  const { Partition } = await from('partition.js');
  const { CurrentLog } = await from('partition-current.js');
  const { PartitionLog } = await from('partition-log.js');
  const { Retention } = await from('retention.js');
  const { CleaningPlan } = await from('storage/compaction.js');

  const during = async (activity, work) => {
    tell('+', activity);
    try {
      return await work();
    } finally {
      tell('-', activity);
    }
  };
  around(PartitionLog.prototype, 'roll', (roll) => during('roll', roll));
  around(OffsetStore.prototype, 'commit', (commit) => during('commit', commit));
  around(Partition.prototype, 'deleteRecords', (remove) => during('deleteRecords', remove));

  around(Partition.prototype, 'freeSegments', async (free, choose) => {
    let isFreeing = false;
    const counted = (segments) => {
      const count = choose(segments);
      isFreeing = count > 0;
      if (isFreeing) tell('+', 'retention');
      return count;
    };
    try {
      await free(counted);
    } finally {
      if (isFreeing) tell('-', 'retention');
    }
  });

  let compacted = null;
  around(CleaningPlan, 'read', (read, segments) => {
    if (compacted === null) tell('+', 'compaction');
    compacted = segments[0].directory;
    return read();
  });
  around(CurrentLog.prototype, 'compact', async function compact(work) {
    await work();
    if (compacted !== this.log.place.directory) return;
    compacted = null;
    tell('-', 'compaction');
  });

  let retention;
  around(Retention.prototype, 'start', function start(work) {
    retention = this;
    return work();
  });
  return { freeSegments: () => retention.check() };
}

/** `work` gets the method, bound, which without arguments takes those of the call; then these. */
function around(target, name, work) {
  const method = target[name];
  if (typeof method !== 'function') throw new Error(`there is no ${name} to watch`);
  target[name] = function watched(...args) {
    const bound = (...others) => method.apply(this, others.length > 0 ? others : args);
    return work.call(this, bound, ...args);
  };
}
