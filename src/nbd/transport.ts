import net from 'node:net';
import tls from 'node:tls';
import { pinnedTlsOptions } from '../shared/pinned-tls.js';
import type { NbdRemote } from './types.js';

/** Takes a connection's bytes: they are put into `space()`, then `received` says how many. */
export interface ByteSink {
  space(): Buffer;
  received(length: number): void;
}

/** A unix socket whose bytes go from the kernel straight to where they belong. */
export function connectUnix(path: string, sink: ByteSink): net.Socket {
  return net.connect({
    path,
    onread: {
      buffer: () => sink.space(),
      callback: (length) => {
        sink.received(length);
        return true;
      },
    },
  });
}

export function connectTcp({ host, port }: NbdRemote, sink: ByteSink): net.Socket {
  const socket = net.connect({ host, port });
  socket.setNoDelay(true);
  return feed(socket, sink);
}

/**
 * Goes on encrypted, on a connection whose server has just agreed to STARTTLS. Only a server that presents the pinned
 * certificate, or one that leads to it and has the right name, is talked to.
 */
export function upgradeToTls(socket: net.Socket, remote: NbdRemote, sink: ByteSink): Promise<tls.TLSSocket> {
  socket.removeAllListeners('data');
  const name = remote.serverName ?? remote.host;
  const secure = tls.connect({
    ...pinnedTlsOptions(remote.tls),
    socket,
    // SNI knows no addresses; the name is compared either way.
    ...(net.isIP(name) === 0 ? { servername: name } : { host: name }),
  });
  return new Promise((resolve, reject) => {
    secure.once('error', reject);
    secure.once('close', () => reject(new Error('the server closed the connection during the TLS handshake')));
    secure.once('secureConnect', () => resolve(feed(secure, sink)));
  });
}

/** Decrypted bytes come in buffers of TLS's own, so here there is one copy. */
function feed<S extends net.Socket>(socket: S, sink: ByteSink): S {
  socket.on('data', (piece: Buffer) => {
    for (let at = 0; at < piece.length && !socket.destroyed;) {
      const length = piece.copy(sink.space(), 0, at);
      sink.received(length);
      at += length;
    }
  });
  return socket;
}
