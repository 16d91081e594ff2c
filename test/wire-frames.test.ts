import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { Frames } from '../src/server/frames.js';
import { serve } from '../src/server/index.js';
import { closedAfterEach } from './contract.js';
import { batchOf, produce } from './wire-batches.js';
import { WireClient } from './wire-client.js';

const opened = closedAfterEach();
const mebibyte = 1024 * 1024;

/** A frame whose bytes all but count. */
function frameOf(length: number): Buffer {
  const frame = Buffer.alloc(4 + length);
  for (let i = 4; i < frame.length; i++) frame[i] = (i * 31) >>> 3;
  frame.writeInt32BE(length, 0);
  return frame;
}

/** All frames that there are after each piece. */
function framesOf(frames: Frames, pieces: Iterable<Buffer>): Buffer[] {
  const found: Buffer[] = [];
  for (const piece of pieces) {
    frames.push(piece);
    for (let frame = frames.next(); frame !== null; frame = frames.next()) found.push(frame);
  }
  return found;
}

describe('Frames', () => {
  it('are the same however they are cut into pieces', () => {
    const size = fc.oneof(fc.nat(20), fc.nat(10_000));
    fc.assert(
      fc.property(fc.array(size), fc.array(fc.nat(9000), { minLength: 1 }), (lengths, cuts) => {
        const sent = lengths.map(frameOf);
        const bytes = Buffer.concat(sent);
        const pieces: Buffer[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = at + 1 + cuts[i % cuts.length]!;
          pieces.push(Buffer.from(bytes.subarray(at, end)));
          at = end;
        }
        const frames = new Frames(mebibyte);
        const found = framesOf(frames, pieces);
        expect(found.map((frame) => frame.toString('hex'))).toEqual(
          sent.map((frame) => frame.toString('hex', 4)),
        );
        expect(frames.pendingBytes).toBe(0);
      }),
    );
  });

  it('hold on to no piece of one byte, of which a mebibyte comes', () => {
    const sent = frameOf(mebibyte);
    const piece = Buffer.alloc(1);
    function* pieces(): Iterable<Buffer> {
      yield sent.subarray(0, 1);
      // One piece for all: who kept it would find the last byte in it.
      for (let at = 1; at < sent.length; at++) {
        piece[0] = sent[at]!;
        yield piece;
      }
    }
    const found = framesOf(new Frames(mebibyte), pieces());
    expect(found.map(({ length }) => length)).toEqual([mebibyte]);
    expect(found[0]!.equals(sent.subarray(4))).toBe(true);
  });

  it('hold on to nothing of a frame that was taken', () => {
    const [large, small] = [frameOf(mebibyte), frameOf(100)];
    const bytes = Buffer.concat([large, small]);
    const frames = new Frames(mebibyte);
    const [first] = framesOf(frames, [
      Buffer.from(bytes.subarray(0, mebibyte)),
      Buffer.from(bytes.subarray(mebibyte, -1)),
    ]);
    const [second] = framesOf(frames, [bytes.subarray(-1)]);
    expect(first!.equals(large.subarray(4))).toBe(true);
    expect(second!.equals(small.subarray(4))).toBe(true);
    expect(second!.buffer.byteLength).toBeLessThan(mebibyte / 2);
  });
});

describe('A connection', () => {
  it('takes a request that comes byte by byte', async () => {
    const ottla = opened(Ottla.memory());
    await ottla.topics.create('t');
    const server = await serve(ottla, { listen: false });
    const client = new WireClient(server.connect());
    const write = client.stream.write.bind(client.stream);
    client.stream.write = (frame: Buffer) => {
      for (let at = 0; at < frame.length; at++) write(frame.subarray(at, at + 1));
      return true;
    };
    const batch = batchOf(['x'.repeat(64 * 1024)]);
    expect(await produce(client, 't', { 0: batch })).toMatchObject([{ errorCode: 0 }]);
  });
});
