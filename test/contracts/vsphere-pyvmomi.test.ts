import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VsphereAdmin } from '../../lab/vsphere/admin.js';
import { startVsphere, type RunningVsphere, type VsphereScenario } from '../../lab/vsphere/start.js';
import { pythonWith } from './python.js';

// Each test is a few lines of Python; `say(x)` prints its result, which is compared here.
const PRELUDE = `
import json, os, ssl, sys
from pyVim.connect import SmartConnect, Disconnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl
def connect(password=os.environ['PASSWORD']):
    context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
    return SmartConnect(host='127.0.0.1', port=int(os.environ['PORT']), user=os.environ['USERNAME'], pwd=password, sslContext=context)
def say(x): print(json.dumps(x))
def fault(f, *a, **k):
    try: f(*a, **k)
    except vmodl.MethodFault as e: return type(e).__name__.split('.')[-1]
def changed(snapshot, change_id, at=0):
    d = vm.QueryChangedDiskAreas(snapshot=snapshot, deviceKey=2000, startOffset=at, changeId=change_id)
    return [d.startOffset, d.length, [[a.start, a.length] for a in d.changedArea]]
def change_id(snapshot): return [d for d in snapshot.config.hardware.device if d.key == 2000][0].backing.changeId
def snapshot(name, quiesce=None):
    t = vm.CreateSnapshotEx_Task(name=name, description='by pyVmomi', memory=False, quiesceSpec=quiesce)
    WaitForTask(t)
    return t.info.result
`;
const CONNECTED = `
si = connect(); content = si.RetrieveContent()
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
vm = [v for v in view.view if v.name == 'web'][0]
`;

const scenario: VsphereScenario = {
  apiVersion: '8.0.2.0',
  vms: [
    {
      name: 'web',
      poweredOn: true,
      tools: 'running',
      disks: [{ capacityBytes: 1 << 20 }, { capacityBytes: 1 << 20, rdm: 'physicalMode' }],
      cdroms: [{}],
      vtpm: true,
    },
  ],
};

let stateDir: string;
let lab: RunningVsphere;
let admin: VsphereAdmin;
let python: string;

beforeAll(async () => {
  python = await pythonWith('pyvmomi==9.1.1.0');
  stateDir = await mkdtemp(join(tmpdir(), 'surefire-pyvmomi-'));
  await start();
});

async function start(): Promise<void> {
  lab = await startVsphere({ stateDir, scenario });
  admin = new VsphereAdmin(lab.adminUrl);
}

afterAll(async () => {
  await lab?.stop();
  await rm(stateDir, { recursive: true, force: true });
});

async function run(code: string): Promise<unknown> {
  const file = join(stateDir, 'test.py');
  await writeFile(file, PRELUDE + code);
  const env = { PORT: new URL(lab.url).port, USERNAME: lab.username, PASSWORD: lab.password };
  const { exitCode, stdout, stderr } = await execa(python, [file], { env, reject: false, timeout: 250_000 });
  expect(exitCode, stderr).toBe(0);
  return JSON.parse(stdout);
}

const connected = (code: string): Promise<unknown> => run(CONNECTED + code);

describe('pyVmomi against the lab', () => {
  it('is refused with a wrong password', async () => {
    expect(await run(`say(fault(connect, 'wrong'))`)).toBe('InvalidLogin');
  });

  it('reads the VM, also what is not set', async () => {
    expect(
      await connected(`
r, d = vm.runtime, vm.config.hardware.device
say([vm.name, r.powerState, r.bootTime is not None, vm.snapshot, vm.guest.toolsRunningStatus,
     vm.summary.config.tpmPresent, [x.backing.compatibilityMode for x in d if x.key == 2001],
     [type(x.backing).__name__ for x in d if isinstance(x, vim.vm.device.VirtualCdrom)]])`),
    ).toEqual([
      'web',
      'poweredOn',
      true,
      null,
      'guestToolsRunning',
      true,
      ['physicalMode'],
      ['vim.vm.device.VirtualCdrom.RemotePassthroughBackingInfo'],
    ]);
  });

  it('tracks changes from the stun on, and answers for allocated and changed areas', async () => {
    const first = (await connected(`
version = vm.config.changeVersion
WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeVersion=version, changeTrackingEnabled=True)))
stale = fault(lambda: WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeVersion=version, annotation='x'))))
stun = snapshot('stun', vim.vm.WindowsQuiesceSpec(timeout=5)); none = change_id(stun)
WaitForTask(stun.RemoveSnapshot_Task(removeChildren=False, consolidate=True))
s = snapshot('one')
say([stale, none, change_id(s), s._moId, changed(s, '*')])`)) as [string, null, string, string, unknown];
    expect(first).toEqual([
      'ConcurrentAccess',
      null,
      expect.stringMatching(/\/\d+$/),
      expect.any(String),
      [0, 1 << 20, []],
    ]);
    await admin.guestWrite('web', 2000, 65536 * 3 + 5, Buffer.from('hello'));
    expect(
      await connected(`
before = ${JSON.stringify(first[2])}
one = vm.snapshot.currentSnapshot; two = snapshot('two')
say([one._moId, [t.name for t in vm.snapshot.rootSnapshotList[0].childSnapshotList], changed(two, before),
     fault(changed, two, before, 1 << 20), fault(changed, two, 'nonsense/1'), fault(changed, None, before),
     fault(vm.QueryChangedDiskAreas, two, 2001, 0, '*')])`),
    ).toEqual([
      first[3],
      ['two'],
      [0, 1 << 20, [[65536 * 3, 65536]]],
      'InvalidArgument',
      'InvalidArgument',
      'FileFault',
      'NotFound',
    ]);
  });

  it('goes on after a restart of the server', async () => {
    await lab.kill();
    await start();
    expect(
      await connected(`
root = vm.snapshot.rootSnapshotList[0]
before = change_id(root.snapshot); two = root.childSnapshotList[0].snapshot
same = changed(two, before)
WaitForTask(vm.RemoveAllSnapshots_Task(consolidate=True))
say([same, vm.snapshot, vm.runtime.consolidationNeeded,
     [d.backing.fileName for d in vm.config.hardware.device if d.key == 2000]])`),
    ).toEqual([[0, 1 << 20, [[65536 * 3, 65536]]], null, false, ['[datastore1] web/web.vmdk']]);
  });

  it('shuts the guest down with Tools only', async () => {
    await admin.setTools('web', 'none');
    expect(await connected(`say([vm.guest.toolsRunningStatus, fault(vm.ShutdownGuest)])`)).toEqual([
      'guestToolsNotRunning',
      'ToolsUnavailable',
    ]);
    await admin.setTools('web', 'running');
    expect(
      await connected(`
vm.ShutdownGuest()
pc = content.propertyCollector
f = pc.CreateFilter(vim.PropertyFilterSpec(objectSet=[vim.ObjectSpec(obj=vm)], propSet=[vim.PropertySpec(type=vim.VirtualMachine, pathSet=['runtime.powerState'])]), True)
version, state = '', None
while state != 'poweredOff':
    update = pc.WaitForUpdatesEx(version, vmodl.query.PropertyCollector.WaitOptions(maxWaitSeconds=10))
    version = update.version
    for fs in update.filterSet:
        for o in fs.objectSet:
            for c in o.changeSet: state = c.val
say([state, fault(lambda: WaitForTask(vm.PowerOff()))])`),
    ).toEqual(['poweredOff', 'InvalidPowerState']);
  });
});
