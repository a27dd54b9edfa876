import { createCipheriv, createHash } from 'node:crypto';

/**
 * Bytes that do not compress and are the same for the same seed on every machine.
 *
 * @param seed Any text.
 * @param length Bytes wanted.
 */
export function seededBytes(seed: string, length: number): Buffer {
  const cipher = createCipheriv('aes-256-ctr', createHash('sha256').update(seed).digest(), Buffer.alloc(16));
  return cipher.update(Buffer.alloc(length));
}
