import { connect, type ListenOptions, type Server } from 'node:net';
import { removeSocketFile } from '../storage/socket-file.js';

/**
 * Listens; a socket's file that a killed process has left behind is taken over.
 * @throws the system's error, such as EADDRINUSE
 */
export async function listenAt(listener: Server, at: ListenOptions): Promise<void> {
  try {
    await bind(listener, at);
  } catch (error) {
    const { path } = at;
    if (path === undefined || (error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    if (!(await isLeftOver(path)) || !removeSocketFile(path)) throw error;
    await bind(listener, at);
  }
}

function bind(listener: Server, at: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(at, () => {
      listener.off('error', reject);
      resolve();
    });
  });
}

/** Whether nobody listens there. What cannot be told is in use. */
function isLeftOver(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'ECONNREFUSED'));
  });
}
