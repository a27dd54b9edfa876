import { setImmediate } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
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

  it('is probed again after two minutes, and carries what was moved all the while as well', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const links = new SourceLinks();
    const rates = [100, 40];
    const user = links.join('a', async () => rates.shift());
    await setImmediate();
    user.moves(60);
    expect([user.linkShare(), user.carries()]).toEqual([0, 100]);
    vi.advanceTimersByTime(121_000);
    user.linkShare();
    await setImmediate();
    expect(user.carries()).toBe(100);
    vi.useRealTimers();
  });

  it('is not told from the server where nothing can be probed', async () => {
    const user = new SourceLinks().join('a', async () => undefined);
    await setImmediate();
    user.moves(60);
    expect(user.linkShare()).toBeUndefined();
  });
});
