import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { SourceLinks } from '../../src/activities/links.js';

describe('the way to a vCenter', () => {
  it('is what holds transfers up when they use together what it carries', async () => {
    const links = new SourceLinks();
    const one = links.join('a', async () => 100);
    const other = links.join('a', () => Promise.reject(new Error('it is probed once')));
    expect(one.linkShare()).toBeUndefined();
    await setImmediate();
    one.moves(50);
    expect([one.linkShare(), other.linkShare()]).toEqual([0, 0]);
    other.moves(30);
    expect([one.linkShare(), other.linkShare()]).toEqual([1, 1]);
    other.leave();
    expect(one.linkShare()).toBe(0);
  });

  it('carries what was moved during the probe as well', async () => {
    const links = new SourceLinks();
    let tell: (rate: number) => void = () => undefined;
    const user = links.join('a', () => new Promise((resolve) => (tell = resolve)));
    user.moves(60);
    tell(40);
    await setImmediate();
    expect(user.carries()).toBe(100);
    expect(user.linkShare()).toBe(0);
  });

  it('is not told from the server where nothing can be probed', async () => {
    const user = new SourceLinks().join('a', async () => undefined);
    await setImmediate();
    user.moves(60);
    expect(user.linkShare()).toBeUndefined();
  });
});
