import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { failure } from '../../src/shared/index.js';
import { hide, redact, redactError } from '../../src/shared/redaction.js';

const PASSWORD = `p<&>"' %+ß/\\1`;
hide(PASSWORD);
hide('OpaqueRef:5e551057-0000');
hide('OpaqueRef:5e551057');

describe('redaction', () => {
  it.for([
    ['plain', `login as root with ${PASSWORD} failed`],
    ['in a SOAP envelope', `<Login><password>p&lt;&amp;&gt;"' %+ß/\\1</password></Login>`],
    ['in an attribute', `<Login password="p&lt;&amp;&gt;&quot;&apos; %+ß/\\1"/>`],
    ['in JSON', JSON.stringify({ params: ['root', PASSWORD] })],
    ['in a query', `https://host/x?p=${encodeURIComponent(PASSWORD)}`],
    ['in a form', new URLSearchParams({ p: PASSWORD }).toString()],
  ])('takes a known secret out %s', ([, text = '']) => {
    expect(redact(text)).toContain('***');
    for (const part of ['ß', '%C3%9F', '1']) expect(redact(text)).not.toContain(part);
  });

  it('takes a secret of a few letters only where it stands alone, and leaves words readable', () => {
    hide('po');
    expect(redact('pool-1 of /tmp/po refuses "po".')).toBe('pool-1 of /tmp/*** refuses "***".');
  });

  it('leaves nothing of a secret that begins like another', () => {
    expect(redact('OpaqueRef:5e551057-0000 replaces OpaqueRef:5e551057')).toBe('*** replaces ***');
  });

  it.for([
    ['--cookie=vmware_soap_session="52a3-f0"; path=/', '--cookie=***; path=/'],
    ['Cookie: vmware_soap_session=52a3', 'Cookie: vmware_soap_session=***'],
    ['PUT /import_raw_vdi?session_id=OpaqueRef:9&vdi=v', 'PUT /import_raw_vdi?session_id=***&vdi=v'],
    ['{"user":"u","password":"a\\"b"}', '{"user":"u","password":"***"}'],
    ['<vim:password>abc</vim:password>', '<vim:password>***</vim:password>'],
    ['authorization: Basic cm9vdDpyb290', 'authorization: Basic ***'],
    ['https://root:abc@host/sdk', 'https://root:***@host/sdk'],
  ])('knows %s by what stands before it', ([text = '', clean]) => {
    expect(redact(text)).toBe(clean);
  });

  it.for(['password=-3', 'password=+/run/secret', 'Password file /etc/pw for https://host is empty.', 'OpaqueRef:9'])(
    'leaves %s alone',
    (text) => expect(redact(text)).toBe(text),
  );

  it('reaches message, stack and details of an error and of its causes, which stay what they are', () => {
    const library = Object.assign(new TypeError(`cannot parse ${PASSWORD}`), { code: 'ERR' });
    const abort = new DOMException(`aborted ${PASSWORD}`, 'AbortError');
    abort.cause = library;
    const told = ApplicationFailure.create({
      type: 'SourceBusy',
      message: `it says ${PASSWORD}`,
      details: [{ said: [PASSWORD], tries: 3 }],
      cause: abort,
    });
    const clean = redactError(told);
    expect(clean).toBe(told);
    expect(told).toMatchObject({ type: 'SourceBusy', message: 'it says ***', details: [{ said: ['***'], tries: 3 }] });
    expect(abort).toMatchObject({ name: 'AbortError', message: 'aborted ***' });
    expect(library).toMatchObject({ code: 'ERR', message: 'cannot parse ***' });
    expect(inspect(clean)).not.toContain(PASSWORD);
    expect(inspect(clean)).not.toContain('ß');
  });

  it('ends at a cause that is its own cause, and makes an error of what is none', () => {
    const error = new Error(PASSWORD);
    error.cause = error;
    expect(redactError(error).message).toBe('***');
    expect(redactError(`no error: ${PASSWORD}`)).toEqual(new Error('no error: ***'));
  });

  it('leaves a cancellation a cancellation', () => {
    const cancelled = new CancelledFailure('cancelled');
    expect(redactError(cancelled)).toBe(cancelled);
  });

  it('is done to every failure of ours as it is made', () => {
    const told = failure('SourceBusy', { what: 'It failed.', why: `Said: ${PASSWORD}.` }, { stderr: PASSWORD });
    expect(told).toMatchObject({ message: 'It failed.\nSaid: ***.', details: [{ stderr: '***' }] });
  });
});
