import { isScalar, ownFieldsOf, parametersOf, resultOf, type Field } from './fields.js';
import { OPERATIONS, TYPES, type OperationName } from './schema.js';

/**
 * The compact WSDL that npm `soap` is given instead of the server's own (2.3 MB, half a second to parse).
 *
 * One schema, all elements qualified, document/literal. Arrays inside `anyType` are left to `normalise`. Faults are not declared: they are read from the raw answer.
 */
export function buildWsdl(): string {
  const operations = Object.keys(OPERATIONS) as OperationName[];
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<definitions name="vim25" targetNamespace="urn:vim25" xmlns="http://schemas.xmlsoap.org/wsdl/"',
    ' xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:v="urn:vim25" xmlns:xsd="http://www.w3.org/2001/XMLSchema">',
    '<types><schema xmlns="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:vim25" elementFormDefault="qualified">',
    '<complexType name="ManagedObjectReference"><simpleContent><extension base="xsd:string">',
    '<attribute name="type" type="xsd:string"/></extension></simpleContent></complexType>',
    ...Object.keys(TYPES).map(complexType),
    ...operations.map(operationElements),
    '</schema></types>',
    ...operations.map(messages),
    '<portType name="VimPortType">',
    ...operations.map(
      (name) => `<operation name="${name}"><input message="v:${name}In"/><output message="v:${name}Out"/></operation>`,
    ),
    '</portType><binding name="VimBinding" type="v:VimPortType">',
    '<soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>',
    ...operations.map(
      (name) =>
        `<operation name="${name}"><soap:operation soapAction="urn:vim25"/><input><soap:body use="literal"/></input>` +
        '<output><soap:body use="literal"/></output></operation>',
    ),
    '</binding><service name="VimService"><port name="VimPort" binding="v:VimBinding">',
    '<soap:address location="https://localhost/sdk"/></port></service></definitions>',
  ].join('\n');
}

function qname(type: string): string {
  if (type === 'MoRef') return 'v:ManagedObjectReference';
  return isScalar(type) ? `xsd:${type}` : `v:${type}`;
}

function element(field: Field): string {
  const least = field.optional || field.repeated ? ' minOccurs="0"' : '';
  const most = field.repeated ? ' maxOccurs="unbounded"' : '';
  return `<element name="${field.name}" type="${qname(field.type)}"${least}${most}/>`;
}

function complexType(name: string): string {
  const sequence = `<sequence>${ownFieldsOf(name).map(element).join('')}</sequence>`;
  const base = TYPES[name]?.base;
  const content = base
    ? `<complexContent><extension base="v:${base}">${sequence}</extension></complexContent>`
    : sequence;
  return `<complexType name="${name}">${content}</complexType>`;
}

function operationElements(name: OperationName): string {
  const result = resultOf(name);
  return (
    `<element name="${name}"><complexType><sequence>${parametersOf(name).map(element).join('')}</sequence></complexType></element>` +
    `<element name="${name}Response"><complexType><sequence>${result ? element(result) : ''}</sequence></complexType></element>`
  );
}

function messages(name: OperationName): string {
  return (
    `<message name="${name}In"><part name="parameters" element="v:${name}"/></message>` +
    `<message name="${name}Out"><part name="parameters" element="v:${name}Response"/></message>`
  );
}
