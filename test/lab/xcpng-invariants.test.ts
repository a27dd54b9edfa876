import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { classes } from '../../lab/xcpng/datamodel.js';
import { chunkHeader, END_MARKER, TestPool, until, VM_FIELDS } from './xcpng-client.js';

// The numbers are those of the invariants that clients of XAPI get wrong most often.

const MIB = 1024 ** 2;
const NULL_REF = 'OpaqueRef:NULL';

let pool: TestPool;

beforeAll(async () => {
  pool = await TestPool.start({ timing: { operationWaitMs: 200, coalesceLagMs: 20, loginFailureDelayMs: 10 } });
});
afterAll(async () => {
  await pool.stop();
});

const failure = (code: string, ...params: string[]) => expect.objectContaining({ code, params });

describe('references and the database', () => {
  it('1: references are not uuids, and the unknown is HANDLE_INVALID', async () => {
    const vdi = await pool.createVdi(MIB);
    expect(vdi).toMatch(/^OpaqueRef:[0-9a-f-]{36}$/);
    expect(vdi).not.toContain(await pool.call('VDI.get_uuid', vdi));
    await expect(pool.call('VM.get_uuid', 'OpaqueRef:x')).rejects.toEqual(
      failure('HANDLE_INVALID', 'VM', 'OpaqueRef:x'),
    );
    await expect(pool.call('VM.get_by_uuid', 'x')).rejects.toEqual(failure('UUID_INVALID', 'VM', 'x'));
  });

  it('2: VM.destroy takes VBDs and VIFs and leaves VDIs; VDI.destroy takes its unplugged VBDs', async () => {
    const { vm, vdi, vbd } = await vmWithDisk();
    const vif = await pool.call('VIF.create', await vifFields(vm));
    await pool.call('VM.destroy', vm);
    await expect(pool.call('VBD.get_uuid', vbd)).rejects.toEqual(failure('HANDLE_INVALID', 'VBD', vbd));
    await expect(pool.call('VIF.get_uuid', vif)).rejects.toEqual(failure('HANDLE_INVALID', 'VIF', vif));
    expect(await pool.call('VDI.get_VBDs', vdi)).toEqual([]);
    const second = await vmWithDisk();
    const file = await pool.fileOf(second.vdi);
    await pool.call('VDI.destroy', second.vdi);
    expect(existsSync(file)).toBe(false);
    expect(await pool.call('VM.get_VBDs', second.vm)).toEqual([]);
  });

  it('3: back references follow, and both sides make events', async () => {
    const vm = await pool.createVm();
    const vdi = await pool.createVdi(MIB);
    const { token } = await events(['vm', 'vdi', 'vbd'], '');
    const vbd = await pool.createVbd(vm, vdi);
    const batch = await events(['vm', 'vdi', 'vbd'], token);
    const seen = batch.events.map(({ class: cls, operation, ref }) => `${cls} ${operation} ${ref}`);
    expect(seen).toEqual(expect.arrayContaining([`vm mod ${vm}`, `vdi mod ${vdi}`, `vbd add ${vbd}`]));
    expect(await pool.call('VM.get_VBDs', vm)).toEqual([vbd]);
    expect(await pool.call('VDI.get_VBDs', vdi)).toEqual([vbd]);
  });

  it('4: a missing field is INTERNAL_ERROR, a wrong count and a wrong type have codes of their own', async () => {
    const { affinity: _left, ...incomplete } = VM_FIELDS;
    const rejected = expect(pool.call('VM.create', incomplete)).rejects;
    await rejected.toMatchObject({ code: 'INTERNAL_ERROR', params: [expect.stringContaining('affinity')] });
    await expect(pool.call('VM.get_uuid')).rejects.toEqual(
      failure('MESSAGE_PARAMETER_COUNT_MISMATCH', 'VM.get_uuid', '1', '0'),
    );
    await expect(pool.createVm({ VCPUs_max: 'many' })).rejects.toEqual(failure('FIELD_TYPE_ERROR', 'VCPUs_max'));
    await expect(pool.call('VM.fly', 'x')).rejects.toEqual(failure('MESSAGE_METHOD_UNKNOWN', 'VM.fly'));
    await expect(pool.call('VM.assert_agile', 'x')).rejects.toEqual(failure('NOT_IMPLEMENTED', 'VM.assert_agile'));
  });

  it('4: every record has exactly the fields of the datamodel', async () => {
    await vmWithDisk();
    for (const [name, spec] of classes) {
      if (['session', 'event', 'vdi_nbd_server_info'].includes(name)) continue;
      const records = await pool.call<Record<string, object>>(`${name}.get_all_records`);
      for (const record of Object.values(records)) {
        expect(Object.keys(record).sort()).toEqual([...spec.fields.keys()].sort());
      }
    }
  });

  it('5: adding a key twice is MAP_DUPLICATE_KEY, removing a missing one succeeds', async () => {
    const vm = await pool.createVm();
    await pool.call('VM.add_to_other_config', vm, 'k', 'v');
    await expect(pool.call('VM.add_to_other_config', vm, 'k', 'w')).rejects.toEqual(
      failure('MAP_DUPLICATE_KEY', 'VM', 'other_config', vm, 'k'),
    );
    await pool.call('VM.remove_from_other_config', vm, 'k');
    await pool.call('VM.remove_from_other_config', vm, 'k');
    expect(await pool.call('VM.get_other_config', vm)).not.toHaveProperty('k');
  });

  it('finds records by get_all_records_where', async () => {
    const vm = await pool.createVm({ name_label: 'the one' });
    const found = await pool.call<object>('VM.get_all_records_where', 'field "name__label" = "the one"');
    expect(Object.keys(found)).toEqual([vm]);
  });
});

describe('VDIs and VBDs', () => {
  it('6: sizes are rounded up per format and limited, thick SRs have an end', async () => {
    const size = async (bytes: number, fields = {}) =>
      pool.call<number>('VDI.get_virtual_size', await pool.createVdi(bytes, fields));
    expect(await size(MIB + 1)).toBe(2 * MIB);
    expect(await size(MIB + 1, { sm_config: { 'image-format': 'qcow2' } })).toBe(MIB + 65536);
    const above = 2041 * 1024 * MIB;
    await expect(size(above, { sm_config: { 'image-format': 'vhd' } })).rejects.toMatchObject({
      code: 'SR_BACKEND_FAILURE_79',
    });
    const SR = await pool.named('SR', 'Local thick');
    await expect(size(65 * 1024 * MIB, { SR })).rejects.toMatchObject({ code: 'SR_BACKEND_FAILURE_44' });
    const [pbd = ''] = await pool.call<string[]>('SR.get_PBDs', SR);
    await pool.call('PBD.unplug', pbd);
    await expect(size(MIB, { SR })).rejects.toEqual(failure('SR_NO_PBDS', SR));
    await pool.call('PBD.plug', pbd);
  });

  it('8, 9: plugging and unplugging at the wrong time have codes of their own', async () => {
    const { vm, vbd } = await vmWithDisk();
    await expect(pool.call('VBD.plug', vbd)).rejects.toEqual(failure('VM_BAD_POWER_STATE', vm, 'running', 'halted'));
    await expect(pool.call('VBD.unplug', vbd)).rejects.toEqual(failure('DEVICE_ALREADY_DETACHED', vbd));
    const { vbd: own, domain } = await plugIntoControlDomain(await pool.createVdi(MIB), 'RW', false);
    await expect(pool.call('VBD.plug', own)).rejects.toEqual(failure('DEVICE_ALREADY_ATTACHED', own));
    await expect(pool.call('VBD.unplug', own)).rejects.toEqual(failure('VBD_NOT_UNPLUGGABLE', own));
    const [vbdUuid, vmUuid] = [await pool.call('VBD.get_uuid', own), await pool.call('VM.get_uuid', domain)];
    await expect(pool.call('VBD.destroy', own)).rejects.toEqual(
      failure('OPERATION_NOT_ALLOWED', `VBD '${vbdUuid}' still attached to '${vmUuid}'`),
    );
  });

  it('refuses constructors that make no sense', async () => {
    const { vm, vdi } = await vmWithDisk();
    await expect(pool.createVbd(vm, vdi)).rejects.toEqual(failure('DEVICE_ALREADY_EXISTS', '0'));
    await expect(pool.createVbd(vm, vdi, { userdevice: 'x' })).rejects.toEqual(failure('INVALID_DEVICE', 'x'));
    const cd = { userdevice: '3', type: 'CD', empty: true };
    await expect(pool.createVbd(vm, NULL_REF, cd)).rejects.toEqual(failure('VBD_CDS_MUST_BE_READONLY'));
    await pool.createVbd(vm, NULL_REF, { ...cd, mode: 'RO' });
    await expect(pool.call('VIF.create', { ...(await vifFields(vm)), MAC: 'zz' })).rejects.toEqual(
      failure('MAC_INVALID', 'zz'),
    );
  });

  it('7, 11: a reader on a host keeps writers of that host out, and everybody keeps VDI.destroy out', async () => {
    const vdi = await pool.createVdi(MIB);
    const { vbd: reader } = await plugIntoControlDomain(vdi, 'RO');
    await expect(pool.call('VDI.destroy', vdi)).rejects.toEqual(failure('VDI_IN_USE', vdi, 'destroy'));
    const { socket, answer, task } = await pool.openImport(vdi, { chunked: 'true' });
    expect((await answer).text).toContain('INTERNAL_ERROR');
    socket.destroy();
    expect((await pool.taskEnd(task)).error_info).toEqual([
      'INTERNAL_ERROR',
      expect.stringContaining('Illegal_transition'),
    ]);
    await pool.call('VBD.unplug', reader);
    await plugIntoControlDomain(vdi, 'RW');
    const elsewhere = await pool.openImport(vdi, { chunked: 'true' }, {}, pool.server.address.slaveUrl);
    expect((await elsewhere.answer).text).toContain('SR_BACKEND_FAILURE_46');
  });

  it('12: a snapshot leaves a hidden base copy, which goes when it separates nothing any more', async () => {
    const vdi = await pool.createVdi(MIB);
    const snapshot = await pool.call('VDI.snapshot', vdi);
    const { 'vhd-parent': parent } = await pool.call<Record<string, string>>('VDI.get_sm_config', vdi);
    const base = await pool.call('VDI.get_by_uuid', parent);
    expect(await pool.call('VDI.get_managed', base)).toBe(false);
    expect(await pool.call('VDI.get_snapshots', vdi)).toEqual([snapshot]);
    await expect(pool.createVbd(await pool.createVm(), base)).rejects.toEqual(failure('VDI_NOT_MANAGED', base));
    await pool.call('VDI.destroy', snapshot);
    await until(async () => (await pool.call<object>('VDI.get_all_records'))[base as never] === undefined || undefined);
    expect(await pool.call('VDI.get_sm_config', vdi)).not.toHaveProperty('vhd-parent');
  });

  it('keeps the leaf: a snapshot is a copy with the content of its moment', async () => {
    const vdi = await pool.createVdi(MIB);
    const uuid = await pool.call('VDI.get_uuid', vdi);
    await writeFile(await pool.fileOf(vdi), Buffer.alloc(2 * MIB, 1));
    const snapshot = await pool.call('VDI.snapshot', vdi);
    await writeFile(await pool.fileOf(vdi), Buffer.alloc(2 * MIB, 2));
    expect(await pool.call('VDI.get_uuid', vdi)).toBe(uuid);
    expect((await readFile(await pool.fileOf(snapshot)))[0]).toBe(1);
    const bitmap = Buffer.from(await pool.call('VDI.list_changed_blocks', snapshot, vdi), 'base64');
    expect([...bitmap]).toEqual([0xff, 0xff, 0xff, 0xff]);
  });
});

describe('VMs', () => {
  it('14: the power state that is wanted is named in lower case', async () => {
    const vm = await pool.createVm();
    await expect(pool.call('VM.hard_shutdown', vm)).rejects.toEqual(
      failure('VM_BAD_POWER_STATE', vm, 'paused, suspended, running', 'halted'),
    );
  });

  it('15: blocked operations come first, and start and start_on are two', async () => {
    const vm = await pool.createVm();
    await pool.call('VM.add_to_blocked_operations', vm, 'start', 'not yet');
    await expect(pool.call('VM.start', vm, false, false)).rejects.toEqual(failure('OPERATION_BLOCKED', vm, 'not yet'));
    const allowed = await pool.call<string[]>('VM.get_allowed_operations', vm);
    expect(allowed).toContain('start_on');
    expect(allowed).not.toContain('start');
  });

  it('16: VM.create ignores blocked_operations', async () => {
    const vm = await pool.createVm({ blocked_operations: { start: 'x' } });
    expect(await pool.call('VM.get_blocked_operations', vm)).toEqual({});
  });

  it('17: a snapshot is a template that can be cloned and not started', async () => {
    const { vm, vdi } = await vmWithDisk();
    const vif = await pool.call('VIF.create', { ...(await vifFields(vm)), MAC: '00:50:56:00:00:01' });
    await pool.call('VDI.add_to_other_config', vdi, 'surefire:self', 'x');
    const snapshot = await pool.call('VM.snapshot', vm, 'pass 1');
    const record = await pool.call<Record<string, unknown>>('VM.get_record', snapshot);
    expect(record).toMatchObject({ is_a_snapshot: true, is_a_template: true, snapshot_of: vm, power_state: 'Halted' });
    expect(await pool.call('VM.get_parent', vm)).toBe(snapshot);
    await expect(pool.call('VM.start', snapshot, false, false)).rejects.toEqual(
      failure('VM_IS_SNAPSHOT', snapshot, 'start'),
    );
    const clone = await pool.call('VM.clone', snapshot, 'test copy');
    expect(await pool.call('VM.get_is_a_template', clone)).toBe(true);
    await expect(pool.call('VM.start', clone, false, false)).rejects.toEqual(failure('VM_IS_TEMPLATE', clone, 'start'));
    await pool.call('VM.set_is_a_template', clone, false);
    const copied = await diskOf(clone);
    expect(copied).not.toBe(vdi);
    expect(await pool.call('VDI.get_other_config', copied)).toEqual({ 'surefire:self': 'x' });
    const [cloneVif = ''] = await pool.call<string[]>('VM.get_VIFs', clone);
    expect(await pool.call('VIF.get_MAC', cloneVif)).not.toBe(await pool.call('VIF.get_MAC', vif));
  });

  it('17: VM.revert gives new VDIs and the old other_config and blocked_operations', async () => {
    const { vm, vdi } = await vmWithDisk();
    await writeFile(await pool.fileOf(vdi), Buffer.alloc(2 * MIB, 1));
    await pool.call('VM.add_to_blocked_operations', vm, 'start', 'then');
    const snapshot = await pool.call('VM.snapshot', vm, 'before');
    await pool.call('VM.remove_from_blocked_operations', vm, 'start');
    await pool.call('VM.add_to_other_config', vm, 'later', 'x');
    await writeFile(await pool.fileOf(vdi), Buffer.alloc(2 * MIB, 2));
    await pool.call('VM.revert', snapshot);
    const fresh = await diskOf(vm);
    expect(fresh).not.toBe(vdi);
    expect((await readFile(await pool.fileOf(fresh)))[0]).toBe(1);
    await expect(pool.call('VDI.get_uuid', vdi)).rejects.toEqual(failure('HANDLE_INVALID', 'VDI', vdi));
    expect(await pool.call('VM.get_blocked_operations', vm)).toEqual({ start: 'then' });
    expect(await pool.call('VM.get_other_config', vm)).not.toHaveProperty('later');
    expect(await pool.call('VDI.get_snapshot_of', await diskOf(snapshot))).toBe(fresh);
    expect(await pool.call('VM.get_name_label', vm)).toBe('guest');
  });

  it('19: VM.start needs a host with all SRs, networks and memory', async () => {
    const { vm, vbd } = await vmWithDisk(await pool.createVdi(MIB, { SR: await pool.named('SR', 'Slave only') }));
    const other = await pool.createVdi(MIB, { SR: await pool.named('SR', 'Local thick') });
    await pool.createVbd(vm, other, { userdevice: '1' });
    await expect(pool.call('VM.start', vm, false, false)).rejects.toEqual(failure('NO_HOSTS_AVAILABLE'));
    const master = await pool.named('host', 'lab-master');
    const SR = await pool.named('SR', 'Slave only');
    await expect(pool.call('VM.start_on', vm, master, false, false)).rejects.toEqual(failure('VM_REQUIRES_SR', vm, SR));
    await pool.call('VBD.destroy', vbd);
    const huge = 1024 ** 4;
    const memory = { memory_static_max: huge, memory_dynamic_max: huge, memory_dynamic_min: huge };
    const big = await pool.createVm(memory);
    await expect(pool.call('VM.start', big, false, false)).rejects.toEqual(failure('NO_HOSTS_AVAILABLE'));
  });
});

describe('tasks, events, transport', () => {
  it('20: event.from waits, tells the present state, and counts the references', async () => {
    const vm = await pool.createVm();
    const { token, valid_ref_counts: counts } = await events(['*'], '');
    expect(counts['vm']).toBe((await pool.call<string[]>('VM.get_all')).length);
    const waiting = events(['vm'], token, 5);
    await pool.call('VM.set_name_label', vm, 'one');
    const first = await waiting;
    expect(first.events).toHaveLength(1);
    expect(first.events[0]).toMatchObject({ class: 'vm', operation: 'mod', ref: vm, snapshot: { name_label: 'one' } });
    expect(first.token > token).toBe(true);
    await pool.call('VM.set_name_label', vm, 'two');
    await pool.call('VM.set_name_label', vm, 'three');
    const batch = await events(['vm'], first.token);
    expect(batch.events).toEqual([expect.objectContaining({ operation: 'mod', ref: vm })]);
    expect(batch.events[0]?.snapshot).toMatchObject({ name_label: 'three' });
    await pool.call('VM.destroy', vm);
    expect((await events(['vm'], batch.token)).events).toEqual([
      expect.objectContaining({ operation: 'del', ref: vm }),
    ]);
    expect((await events([`vm/${vm}`], batch.token, 0)).events).toHaveLength(1);
    await expect(events(['nonsense'], '')).rejects.toEqual(failure('EVENT_SUBSCRIPTION_PARSE_FAILURE', 'nonsense'));
    await expect(events(['vm'], 'x')).rejects.toEqual(failure('EVENT_FROM_TOKEN_PARSE_FAILURE', 'x'));
    const injected = await pool.call('event.inject', 'pool', await firstOf('pool'));
    expect((await events(['pool'], injected, 0)).events).toHaveLength(1);
  });

  it('21: an Async call gives a task whose result is XML; a finished task never changes and is collected', async () => {
    const task = await pool.call('Async.VM.create', VM_FIELDS);
    const { status, result } = await pool.taskEnd(task);
    expect(status).toBe('success');
    expect(result).toMatch(/^<value>OpaqueRef:.*<\/value>$/);
    await pool.call('task.set_status', task, 'cancelled');
    expect(await pool.call('task.get_status', task)).toBe('success');
    pool.server.pool.tasks.collect(Date.now() + 66 * 60_000);
    await expect(pool.call('task.get_status', task)).rejects.toEqual(failure('HANDLE_INVALID', 'task', task));
    const failed = await pool.taskEnd(await pool.call('Async.VM.destroy', 'OpaqueRef:x'));
    expect(failed).toMatchObject({ status: 'failure', error_info: ['HANDLE_INVALID', 'VM', 'OpaqueRef:x'] });
    const pending = await pool.call('task.create', 'upload', '');
    await pool.call('task.set_progress', pending, 0.5);
    await pool.call('task.destroy', pending);
    expect(await pool.call('task.get_progress', pending)).toBe(0.5);
    await pool.call('task.set_status', pending, 'success');
    await expect(pool.call('task.get_status', pending)).rejects.toEqual(failure('HANDLE_INVALID', 'task', pending));
  });

  it('22: the second host sends callers to the master, and wrong credentials are told', async () => {
    const { slaveUrl, username, password } = pool.server.address;
    const login = pool.rpc('session.login_with_password', [username, password], slaveUrl);
    await expect(login).rejects.toEqual(failure('HOST_IS_SLAVE', '127.0.0.1'));
    await expect(pool.rpc('session.login_with_password', ['root', 'x'])).rejects.toEqual(
      failure('SESSION_AUTHENTICATION_FAILED', 'root', 'Authentication failure'),
    );
    await expect(pool.rpc('VM.get_all', ['OpaqueRef:x'])).rejects.toEqual(failure('SESSION_INVALID', 'OpaqueRef:x'));
  });

  it('exports a VDI whole, without a length', async () => {
    const vdi = await pool.createVdi(4 * MIB);
    await writeFile(await pool.fileOf(vdi), Buffer.alloc(4 * MIB, 3));
    const task = await pool.call('task.create', 'export', '');
    const query = new URLSearchParams({ session_id: pool.session, task_id: task, vdi, format: 'raw' });
    const { status, head, text } = await pool.request('GET', `/export_raw_vdi?${query}`);
    expect(status).toBe(200);
    expect(head).not.toContain('content-length');
    expect(Buffer.from(text, 'latin1').equals(Buffer.alloc(4 * MIB, 3))).toBe(true);
    expect((await pool.taskEnd(task)).status).toBe('success');
    await until(async () => (await pool.call<string[]>('VDI.get_VBDs', vdi)).length === 0 || undefined);
  });

  it('13, 22: a restart of the toolstack forgets sessions and tasks and leaves the VBD of an import', async () => {
    const vdi = await pool.createVdi(MIB);
    const { socket, answer, task } = await pool.openImport(vdi, { chunked: 'true' });
    socket.write(Buffer.concat([chunkHeader(0, 512), Buffer.alloc(512, 1)]));
    const { imports } = pool.server.pool;
    await until(() => imports.records.find((record) => record.taskRef === task)?.chunks[0]);
    const response = await fetch(`${pool.server.address.adminUrl}/faults`, {
      method: 'POST',
      body: JSON.stringify({ kind: 'restart' }),
    });
    expect(response.status).toBe(200);
    expect((await answer).text).toBe('');
    await expect(pool.call('VM.get_all')).rejects.toMatchObject({ code: 'SESSION_INVALID' });
    await pool.login();
    await expect(pool.call('task.get_status', task)).rejects.toEqual(failure('HANDLE_INVALID', 'task', task));
    const [vbd = ''] = await pool.call<string[]>('VDI.get_VBDs', vdi);
    expect(await pool.call('VBD.get_currently_attached', vbd)).toBe(true);
    await pool.call('VBD.unplug_force', vbd);
    await pool.call('VBD.destroy', vbd);
    const again = await pool.openImport(vdi, { chunked: 'true' });
    again.socket.write(END_MARKER);
    await again.answer;
    expect((await pool.taskEnd(again.task)).status).toBe('success');
  });
});

interface EventBatch {
  token: string;
  valid_ref_counts: Record<string, number>;
  events: { class: string; operation: string; ref: string; snapshot?: object }[];
}

function events(names: string[], token: string, timeoutSeconds = 1): Promise<EventBatch> {
  return pool.call('event.from', names, token, timeoutSeconds);
}

async function firstOf(cls: string): Promise<string> {
  return (await pool.call<string[]>(`${cls}.get_all`))[0] ?? '';
}

async function vmWithDisk(disk?: string): Promise<{ vm: string; vdi: string; vbd: string }> {
  const vm = await pool.createVm();
  const vdi = disk ?? (await pool.createVdi(MIB));
  return { vm, vdi, vbd: await pool.createVbd(vm, vdi) };
}

async function diskOf(vm: string): Promise<string> {
  const [vbd = ''] = await pool.call<string[]>('VM.get_VBDs', vm);
  return pool.call('VBD.get_VDI', vbd);
}

async function vifFields(VM: string): Promise<object> {
  const network = await pool.call('network.create', { name_label: 'test', other_config: {} });
  const qos = { qos_algorithm_type: '', qos_algorithm_params: {} };
  return { device: '0', network, VM, MAC: '', MTU: 1500, other_config: {}, ...qos };
}

async function plugIntoControlDomain(vdi: string, mode: 'RO' | 'RW', unpluggable = true) {
  const domain = await pool.named('VM', 'Control domain on host: lab-master');
  const vbd = await pool.createVbd(domain, vdi, { userdevice: 'autodetect', mode, unpluggable });
  await pool.call('VBD.plug', vbd);
  return { vbd, domain };
}
