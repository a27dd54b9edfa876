import { ApplicationFailure } from '@temporalio/common';

/**
 * What this process knows and nobody may read in an error, a log or a record: passwords as they are read, session
 * cookies and ids as servers give them out. One list for the process, so that no adapter has to know another's secrets.
 */
const known = new Map<string, RegExp>();

/** Longest first, so that no part of a secret survives the replacement of a shorter one. */
let ordered: RegExp[] = [];

/** Below this many characters a secret is also part of ordinary words: then only the whole word is replaced. */
const UNMISTAKABLE = 6;

/** Secrets that are in none of our lists, such as one in a hook's output, are known by what stands before them. */
const GIVEN_AWAY: [pattern: RegExp, replacement: string][] = [
  // Not nbdkit's `password=+FILE` and `password=-FD`, which say where the password is.
  [/\b(vmware_soap_session)=(\\?"[^"\\]*\\?"|[^\s&;"'\\]+)/gi, '$1=***'],
  [/\b(password|passwd|cookie|session_id)=(?!\+|-\d)(\\?"[^"\\]*\\?"|[^\s&;"'\\]+)/gi, '$1=***'],
  [/("(?:password|session_id)"\s*:\s*)"(?:[^"\\]|\\.)*"/gi, '$1"***"'],
  [/(<(?:\w+:)?password\b[^>]*>)[^<]*/gi, '$1***'],
  [/\b(authorization:\s*\w+\s+)\S+/gi, '$1***'],
  [/\b(\w+:\/\/[^\s:/@]+:)[^\s/@]+@/g, '$1***@'],
];

/**
 * Remembers a value as secret, in every spelling in which an error may quote it: plain, in a URL, in XML, in JSON. May be
 * called again and again with the same one.
 */
export function hide(secret: string): void {
  if (secret === '' || known.has(secret)) return;
  const inJson = JSON.stringify(secret).slice(1, -1);
  const inXml = secret.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  const inQuotedXml = inXml.replaceAll('"', '&quot;').replaceAll("'", '&apos;');
  const inForm = new URLSearchParams({ s: secret }).toString().slice('s='.length);
  for (const form of [secret, inJson, inXml, inQuotedXml, inForm, encodeURIComponent(secret)]) {
    const exactly = form.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
    const whole = form.length < UNMISTAKABLE ? `(?<![A-Za-z0-9])${exactly}(?![A-Za-z0-9])` : exactly;
    known.set(form, new RegExp(whole, 'g'));
  }
  ordered = [...known].sort(([a], [b]) => b.length - a.length).map(([, pattern]) => pattern);
}

/** The text with `***` in the place of everything secret. */
export function redact(text: string): string {
  let clean = text;
  for (const secret of ordered) clean = clean.replace(secret, '***');
  for (const [pattern, replacement] of GIVEN_AWAY) clean = clean.replace(pattern, replacement);
  return clean;
}

/**
 * Takes secrets out of an error before it goes where it is kept: out of message, stack and details, and out of those of
 * its causes. The error stays the one it was, so that types and `instanceof` still hold.
 */
export function redactError(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(redact(String(error)));
  const seen = new Set<unknown>();
  for (let at: unknown = error; at instanceof Error && !seen.has(at); at = at.cause) {
    seen.add(at);
    // Defined, not assigned: a DOMException has its message on the prototype, for reading only.
    Object.defineProperty(at, 'message', { value: redact(at.message), configurable: true, writable: true });
    if (at.stack !== undefined) {
      Object.defineProperty(at, 'stack', { value: redact(at.stack), configurable: true, writable: true });
    }
    if (at instanceof ApplicationFailure && at.details) {
      Object.defineProperty(at, 'details', { value: redactValue(at.details), configurable: true });
    }
  }
  return error;
}

/** The same value with every text in it redacted. JSON values only. */
export function redactValue(value: unknown): unknown {
  if (typeof value === 'string') return redact(value);
  if (Array.isArray(value)) return value.map(redactValue);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, redactValue(item)]));
}
