import { describe, expect, it } from 'vitest';
import { createNativeHasher, createWasmHasher } from '../../src/transfer/blake3.js';
import { DigestChain, EMPTY_CHAIN } from '../../src/transfer/digest-chain.js';
import { pattern } from '../nbd/nbdkit.js';

describe('BLAKE3', () => {
  it('is the same natively and in WebAssembly, again after a digest', async () => {
    const hashers = [await createNativeHasher(), await createWasmHasher()];
    for (const hasher of hashers) {
      hasher.update(Buffer.from('abc'));
      // Test vector of the BLAKE3 specification.
      expect(hasher.digest().toString('hex')).toBe('6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85');
    }
    const bytes = pattern(3_000_001);
    const [native, wasm] = hashers.map((hasher) => (hasher.update(bytes), hasher.digest().toString('hex')));
    expect(native).toBe(wasm);
  });
});

describe('DigestChain', () => {
  it('does not depend on how the bytes of a chunk arrive, nor on a stop between chunks', async () => {
    const bytes = pattern(100_000);
    const whole = await DigestChain.create();
    expect(whole.value).toBe(EMPTY_CHAIN);
    whole.add(0, bytes);
    whole.add(200_000, bytes);
    const pieces = await DigestChain.create();
    pieces.begin(0, bytes.length);
    for (let at = 0; at < bytes.length; at += 777) pieces.update(bytes.subarray(at, at + 777));
    pieces.end();
    const later = await DigestChain.create(pieces.value, pieces.chunks);
    later.add(200_000, bytes);
    expect(later.value).toBe(whole.value);
    expect(later.chunks).toBe(2);
  });

  it('changes with a byte, an offset, and the order', async () => {
    const [a, b] = [pattern(4096, 1), pattern(4096, 2)];
    const values = await Promise.all(
      [
        [[0, a] as const, [4096, b] as const],
        [[0, b] as const, [4096, a] as const],
        [[0, a] as const, [8192, b] as const],
        [[4096, b] as const, [0, a] as const],
      ].map(async (chunks) => {
        const chain = await DigestChain.create();
        for (const [offset, bytes] of chunks) chain.add(offset, bytes);
        return chain.value;
      }),
    );
    expect(new Set(values).size).toBe(4);
  });
});
