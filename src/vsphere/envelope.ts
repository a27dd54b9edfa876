import { XMLBuilder, XMLParser } from 'fast-xml-parser';
import { buildRequest } from './requests.js';
import type { OperationName } from './schema.js';

/** How elements stand as objects, both ways: `{attributes: {name: text}, $value: text}`, or the text alone. */
const SHAPE = {
  ignoreAttributes: false,
  attributesGroupName: 'attributes',
  attributeNamePrefix: '',
  textNodeName: '$value',
};

const builder = new XMLBuilder({ ...SHAPE, suppressBooleanAttributes: false });

// Servers choose their own prefixes of elements. Those of attributes stay: a reference has a `type` and an `xsi:type`.
// Numbers are left as text, for only the table knows which texts are numbers.
const parser = new XMLParser({
  ...SHAPE,
  parseTagValue: false,
  htmlEntities: true,
  // Snapshots stand inside their parents, and so do the links of a disk's chain: one level each.
  maxNestedTags: 1_000,
  transformTagName: (name) => name.replace(/^.*:/, ''),
});

/** The text of a request. @throws Error where the arguments are not what the table says: a mistake of ours. */
export function buildEnvelope(operation: OperationName, args: Record<string, unknown>): string {
  return builder.build({
    'soap:Envelope': {
      attributes: {
        'xmlns:soap': 'http://schemas.xmlsoap.org/soap/envelope/',
        'xmlns:xsi': 'http://www.w3.org/2001/XMLSchema-instance',
        'xmlns:xsd': 'http://www.w3.org/2001/XMLSchema',
      },
      'soap:Body': { [operation]: { attributes: { xmlns: 'urn:vim25' }, ...buildRequest(operation, args) } },
    },
  });
}

/** A fault as it came; `faultOf` reads it. */
export interface RawFault {
  faultstring?: unknown;
  detail?: Record<string, unknown>;
}

/** What an answer holds; undefined when the text is no answer to this operation, nor XML at all. */
export function parseEnvelope(
  operation: OperationName,
  text: string,
): { fault: RawFault } | { returnval: unknown } | undefined {
  const { Fault: fault, [`${operation}Response`]: response } = bodyOf(text) ?? {};
  if (fault !== undefined) return { fault: fault as RawFault };
  // An answer without a value is an empty element, or one with attributes alone.
  return response === undefined ? undefined : { returnval: (response as { returnval?: unknown }).returnval };
}

function bodyOf(text: string): Record<string, unknown> | undefined {
  try {
    return (parser.parse(text) as { Envelope?: { Body?: Record<string, unknown> } }).Envelope?.Body;
  } catch {
    return undefined;
  }
}
