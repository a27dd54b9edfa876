import { describe, expect, it } from 'vitest';
import soap from 'soap';
import { faultFromLocalized } from '../../src/vsphere/faults.js';
import { normalise, normaliseField } from '../../src/vsphere/normalise.js';
import { resultOf } from '../../src/vsphere/fields.js';
import { buildWsdl } from '../../src/vsphere/wsdl.js';

/** Parses an answer as npm soap does and normalises it. `t` is how the server spells xsi:type. */
async function parse(returnval: string): Promise<unknown> {
  const xml =
    '<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" ' +
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"><soapenv:Body>' +
    `<RetrievePropertiesExResponse xmlns="urn:vim25">${returnval}</RetrievePropertiesExResponse>` +
    '</soapenv:Body></soapenv:Envelope>';
  const httpClient = {
    request: (_url: string, _data: string, callback: (...args: unknown[]) => void) =>
      callback(null, { status: 200, headers: {}, data: xml }, xml),
  };
  const client = await soap.createClientAsync(buildWsdl(), {
    disableCache: true,
    httpClient: httpClient as unknown as soap.HttpClient,
  });
  const call = (client as unknown as { RetrievePropertiesExAsync: (args: object) => Promise<unknown[]> })
    .RetrievePropertiesExAsync;
  const [answer] = (await call({})) as [{ returnval?: unknown } | null];
  const field = resultOf('RetrievePropertiesEx');
  return field && normaliseField(field, answer?.returnval);
}

const spellings = {
  vCenter: 'xsi:type=',
  "govmomi's simulator":
    'xmlns:_XMLSchema-instance="http://www.w3.org/2001/XMLSchema-instance" _XMLSchema-instance:type=',
};

describe.each(Object.entries(spellings))('normalise, with xsi:type as %s spells it', (_server, type) => {
  const property = (name: string, val: string) =>
    `<returnval><objects><obj type="VirtualMachine">vm-1</obj><propSet><name>${name}</name>${val}</propSet></objects></returnval>`;
  const valueOf = (answer: unknown) =>
    (answer as { objects: { propSet: { val: unknown }[] }[] }).objects[0]?.propSet[0]?.val;

  it('turns scalars into booleans, numbers, text and ISO dates', async () => {
    const scalars: [string, string, unknown][] = [
      ['xsd:boolean', 'false', false],
      ['xsd:boolean', 'true', true],
      ['xsd:int', '7', 7],
      ['xsd:long', '70368744177664', 70368744177664],
      ['xsd:string', '007', '007'],
      ['VirtualMachinePowerState', 'poweredOn', 'poweredOn'],
      ['xsd:dateTime', '2026-01-02T03:04:05.5Z', '2026-01-02T03:04:05.500Z'],
    ];
    for (const [sent, text, expected] of scalars) {
      expect(valueOf(await parse(property('x', `<val ${type}"${sent}">${text}</val>`)))).toBe(expected);
    }
  });

  it('tells a reference from its type attribute', async () => {
    const val = `<val type="HostSystem" ${type}"ManagedObjectReference">host-3</val>`;
    expect(valueOf(await parse(property('runtime.host', val)))).toEqual({ type: 'HostSystem', value: 'host-3' });
  });

  it('makes lists of none, one and two', async () => {
    const list = (items: string) => property('x', `<val ${type}"ArrayOfString">${items}</val>`);
    expect(valueOf(await parse(list('')))).toEqual([]);
    expect(valueOf(await parse(list('<string>a</string>')))).toEqual(['a']);
    expect(valueOf(await parse(list('<string>a</string><string>b</string>')))).toEqual(['a', 'b']);
  });

  it('reads devices by their own types and keeps the name of one it does not know', async () => {
    const devices =
      `<VirtualDevice ${type}"VirtualDisk"><key>2000</key><backing ${type}"VirtualDiskFlatVer2BackingInfo">` +
      '<fileName>[ds] a/a-000001.vmdk</fileName><diskMode>persistent</diskMode>' +
      '<changeId>52 de/4</changeId><parent><fileName>[ds] a/a.vmdk</fileName><diskMode>persistent</diskMode></parent>' +
      '</backing><unitNumber>0</unitNumber><capacityInKB>8192</capacityInKB><capacityInBytes>8388608</capacityInBytes>' +
      `</VirtualDevice><VirtualDevice ${type}"VirtualQuantumDrive"><key>9</key></VirtualDevice>`;
    const val = valueOf(await parse(property('d', `<val ${type}"ArrayOfVirtualDevice">${devices}</val>`)));
    expect(val).toEqual([
      expect.objectContaining({
        $type: 'VirtualDisk',
        key: 2000,
        capacityInBytes: 8388608,
        backing: expect.objectContaining({
          $type: 'VirtualDiskFlatVer2BackingInfo',
          changeId: '52 de/4',
          parent: expect.objectContaining({ fileName: '[ds] a/a.vmdk' }) as unknown,
        }) as unknown,
      }),
      expect.objectContaining({ $type: 'VirtualQuantumDrive', key: 9 }),
    ]);
  });

  it('survives types the table does not know, however deep', async () => {
    const options =
      `<val ${type}"VirtualMachineBootOptions"><bootDelay>0</bootDelay><efiSecureBootEnabled>true</efiSecureBootEnabled>` +
      `<bootOrder ${type}"VirtualMachineBootOptionsBootableDiskDevice"><deviceKey>2000</deviceKey></bootOrder>` +
      `<bootOrder ${type}"VirtualMachineBootOptionsBootableCdromDevice"></bootOrder></val>`;
    expect(valueOf(await parse(property('config.bootOptions', options)))).toMatchObject({
      efiSecureBootEnabled: 'true',
    });
    const card =
      `<val ${type}"ArrayOfVirtualDevice"><VirtualDevice ${type}"VirtualVmxnet3Vrdma"><key>4000</key>` +
      '<macAddress>00:50:56:00:00:01</macAddress><deviceProtocol>rocev2</deviceProtocol></VirtualDevice></val>';
    expect(valueOf(await parse(property('d', card)))).toMatchObject([{ key: 4000, macAddress: '00:50:56:00:00:01' }]);
  });

  it('reads how a task failed', async () => {
    const info =
      `<val ${type}"TaskInfo"><key>task-1</key><task type="Task">task-1</task><descriptionId>x</descriptionId>` +
      '<state>error</state><cancelled>false</cancelled><cancelable>false</cancelable>' +
      `<error><fault ${type}"FileLocked"><faultMessage><key>k</key><arg><key>1</key><value ${type}"xsd:string">v</value>` +
      `</arg></faultMessage><file>[ds] a/a.vmdk</file></fault><localizedMessage>locked</localizedMessage></error>` +
      `<progress>95</progress><reason ${type}"TaskReasonUser"><userName>root</userName></reason>` +
      '<queueTime>2026-01-02T03:04:05Z</queueTime><eventChainId>1</eventChainId></val>';
    const { error, ...rest } = valueOf(await parse(property('info', info))) as { error: unknown };
    expect(rest).toMatchObject({ state: 'error', progress: 95, task: { type: 'Task', value: 'task-1' } });
    expect(faultFromLocalized(error)).toMatchObject({
      type: 'FileLocked',
      message: 'locked',
      fields: { file: '[ds] a/a.vmdk' },
    });
  });

  it('takes no answer at all for nothing', async () => {
    expect(await parse('')).toBeUndefined();
    expect(normalise('DiskChangeInfo', null)).toBeUndefined();
  });

  it('gives an empty page of changed areas an empty list', () => {
    const page = { startOffset: '65536', length: '131072' };
    expect(normalise('DiskChangeInfo', page)).toMatchObject({ startOffset: 65536, length: 131072, changedArea: [] });
  });
});
