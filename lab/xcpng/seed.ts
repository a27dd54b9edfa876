import { NULL_REF, type Row } from './datamodel.js';
import type { Pool } from './pool.js';
import { formatDate } from './values.js';

const GIB = 1024 ** 3;
const HOST_MEMORY = 256 * GIB;

/** The pool as first made: two hosts, four SRs, two networks, the templates of the product. */
export function seedPool(pool: Pool, addresses: { master: string; slave: string }): void {
  const { db } = pool;
  const poolRef = db.create('pool', { name_label: 'lab', restrictions: { restrict_vtpm: 'false' } });
  const management = db.create('network', {
    name_label: 'Pool-wide network associated with eth0',
    bridge: 'xenbr0',
    other_config: {},
  });
  db.create('network', {
    name_label: 'Host internal management network',
    bridge: 'xenapi',
    other_config: { is_guest_installer_network: 'true', is_host_internal_management_network: 'true' },
  });
  const master = addHost(pool, 'lab-master', addresses.master, management);
  const slave = addHost(pool, 'lab-slave', addresses.slave, management);
  for (const type of ['ext', 'lvm', 'nfs', 'iso']) addStorageManager(pool, type);
  const thin = addSr(pool, 'Local thin', 'ext', 'user', 8192 * GIB, true, [master, slave]);
  addSr(pool, 'Local thick', 'lvm', 'user', 64 * GIB, false, [master]);
  addSr(pool, 'Slave only', 'ext', 'user', 1024 * GIB, false, [slave]);
  addSr(pool, 'ISO library', 'iso', 'iso', 16 * GIB, true, [master, slave]);
  db.set('pool', poolRef, { master, default_SR: thin, suspend_image_SR: thin, crash_dump_SR: thin });
  for (const template of TEMPLATES) addTemplate(pool, template);
  db.flush();
}

function addHost(pool: Pool, name: string, address: string, network: string): string {
  const { db } = pool;
  const metrics = db.create('host_metrics', { memory_total: HOST_MEMORY, live: true });
  const host = db.create('host', {
    name_label: name,
    hostname: name,
    address,
    enabled: true,
    metrics,
    API_version_major: 2,
    API_version_minor: 21,
    API_version_vendor: 'XenSource',
    software_version: {
      product_brand: 'XCP-ng',
      product_version: '8.3.0',
      platform_version: '3.4.0',
      xapi: '26.1',
      xapi_build: '26.1.4',
      build_number: 'lab',
      date: '2026-05-05',
    },
    cpu_configuration: {},
    cpu_info: { cpu_count: '8', socket_count: '1' },
    capabilities: ['xen-3.0-x86_64', 'hvm-3.0-x86_64'],
    allowed_operations: ['vm_start', 'provision'],
  });
  db.create('PIF', {
    device: 'eth0',
    network,
    host,
    MAC: `52:54:00:00:00:0${address.slice(-1)}`,
    MTU: 1500,
    VLAN: -1,
    IP: address,
    physical: true,
    management: true,
    currently_attached: true,
    ip_configuration_mode: 'Static',
  });
  const vmMetrics = db.create('VM_metrics', { start_time: formatDate(), state: ['running'] });
  const domain = db.create('VM', {
    name_label: `Control domain on host: ${name}`,
    is_control_domain: true,
    power_state: 'Running',
    domid: 0,
    resident_on: host,
    affinity: host,
    metrics: vmMetrics,
    guest_metrics: NULL_REF,
    memory_static_max: 4 * GIB,
    VCPUs_max: 4,
    VCPUs_at_startup: 4,
  });
  db.set('host', host, { control_domain: domain });
  return host;
}

function addStorageManager(pool: Pool, type: string): void {
  pool.db.create('SM', {
    name_label: type,
    name_description: `SR plugin of type ${type}`,
    type,
    vendor: 'lab',
    version: '3.0',
    required_api_version: '1.0',
    capabilities: ['SR_PROBE', 'VDI_CREATE', 'VDI_DELETE', 'VDI_SNAPSHOT', 'VDI_CLONE', 'VDI_RESIZE'],
    features: { SR_PROBE: 1, VDI_CREATE: 1, VDI_DELETE: 1, VDI_SNAPSHOT: 1, VDI_CLONE: 1, VDI_RESIZE: 1 },
    supported_image_formats: type === 'iso' ? ['raw'] : ['vhd', 'qcow2'],
  });
}

function addSr(
  pool: Pool,
  name: string,
  type: string,
  content: string,
  sizeBytes: number,
  shared: boolean,
  hosts: string[],
): string {
  const sr = pool.db.create('SR', {
    name_label: name,
    type,
    content_type: content,
    physical_size: sizeBytes,
    shared,
    other_config: {},
    allowed_operations: ['scan', 'update', 'vdi_create', 'vdi_destroy', 'vdi_clone', 'vdi_snapshot', 'vdi_resize'],
  });
  for (const host of hosts) pool.db.create('PBD', { host, SR: sr, device_config: {}, currently_attached: true });
  return sr;
}

interface Template {
  label: string;
  reference: string;
  firmware: 'bios' | 'uefi';
  isWindows?: boolean;
}

const TEMPLATES: Template[] = [
  { label: 'Other install media', reference: 'other-install-media', firmware: 'bios' },
  { label: 'Windows Server 2022', reference: 'windows-server-2022', firmware: 'uefi', isWindows: true },
  { label: 'Windows Server 2025', reference: 'windows-server-2025', firmware: 'uefi', isWindows: true },
  { label: 'Windows 11', reference: 'windows-11', firmware: 'uefi', isWindows: true },
  { label: 'Debian Bookworm 12', reference: 'debian-12', firmware: 'bios' },
  { label: 'Ubuntu Noble Numbat 24.04', reference: 'ubuntu-24.04', firmware: 'bios' },
  { label: 'Rocky Linux 9', reference: 'rocky-9', firmware: 'bios' },
  { label: 'RHEL 9', reference: 'rhel-9', firmware: 'bios' },
];

function addTemplate(pool: Pool, { label, reference, firmware, isWindows }: Template): void {
  const windows: Row = isWindows ? { viridian: 'true', viridian_time_ref_count: 'true' } : { viridian: 'false' };
  pool.db.create('VM', {
    name_label: label,
    is_a_template: true,
    is_default_template: true,
    reference_label: reference,
    metrics: pool.db.create('VM_metrics', {}),
    guest_metrics: NULL_REF,
    domid: -1,
    memory_static_max: 2 * GIB,
    memory_dynamic_max: 2 * GIB,
    memory_dynamic_min: 2 * GIB,
    memory_static_min: GIB,
    VCPUs_max: 1,
    VCPUs_at_startup: 1,
    actions_after_shutdown: 'destroy',
    actions_after_reboot: 'restart',
    actions_after_crash: 'restart',
    HVM_boot_policy: 'BIOS order',
    HVM_boot_params: { order: 'cdn', firmware },
    platform: { nx: 'true', acpi: '1', apic: 'true', pae: 'true', hpet: 'true', vga: 'std', videoram: '8', ...windows },
    other_config: { default_template: 'true', 'install-methods': 'cdrom' },
    domain_type: 'hvm',
    recommendations: '<restrictions><restriction field="memory-static-max" max="137438953472"/></restrictions>',
  });
}
