/**
 * The one table of what we say to vSphere: operations with their parameters in order, and data types with their fields
 * in order. The WSDL, the builder of requests and the normaliser of answers are all made from it.
 *
 * A field is `name type`; `?` after the name is optional, `*` repeats. Order matters: a server refuses elements that are
 * out of the schema's order. For types we only read, fields that nobody reads may be left out, and a type with many
 * subtypes (devices, backings) holds the fields of them all: the server's own name of a subtype is kept as `$type`.
 *
 * Source: vSphere Web Services API reference, vim25 (order as in the service's schema).
 */
export interface OperationShape {
  takes?: string;
  /** A type, `type*` when it repeats, or nothing when the answer is empty. */
  returns?: string;
}

export const OPERATIONS = {
  RetrieveServiceContent: { returns: 'ServiceContent' },
  CurrentTime: { returns: 'dateTime' },
  Login: { takes: 'userName string, password string, locale? string', returns: 'UserSession' },
  Logout: {},
  CreateContainerView: { takes: 'container MoRef, type* string, recursive boolean', returns: 'MoRef' },
  DestroyView: {},
  RetrievePropertiesEx: { takes: 'specSet* PropertyFilterSpec, options RetrieveOptions', returns: 'RetrieveResult' },
  ContinueRetrievePropertiesEx: { takes: 'token string', returns: 'RetrieveResult' },
  HasPrivilegeOnEntity: { takes: 'entity MoRef, sessionId string, privId* string', returns: 'boolean*' },
  CreateSnapshot_Task: { takes: 'name string, description? string, memory boolean, quiesce boolean', returns: 'MoRef' },
  RemoveSnapshot_Task: { takes: 'removeChildren boolean, consolidate? boolean', returns: 'MoRef' },
  RevertToSnapshot_Task: { takes: 'host? MoRef, suppressPowerOn? boolean', returns: 'MoRef' },
  ConsolidateVMDisks_Task: { returns: 'MoRef' },
  ReconfigVM_Task: { takes: 'spec VirtualMachineConfigSpec', returns: 'MoRef' },
  QueryChangedDiskAreas: {
    takes: 'snapshot? MoRef, deviceKey int, startOffset long, changeId string',
    returns: 'DiskChangeInfo',
  },
  ShutdownGuest: {},
  PowerOffVM_Task: { returns: 'MoRef' },
  PowerOnVM_Task: { takes: 'host? MoRef', returns: 'MoRef' },
} as const satisfies Record<string, OperationShape>;

export type OperationName = keyof typeof OPERATIONS;

export interface TypeShape {
  base?: string;
  fields: string;
}

const type = (fields: string, base?: string): TypeShape => ({ fields, base });

/** Types that answers and requests are made of. `MoRef` and the scalars are built in. */
export const TYPES: Record<string, TypeShape> = {
  // Session
  ServiceContent: type(
    'rootFolder MoRef, propertyCollector MoRef, viewManager? MoRef, about AboutInfo, sessionManager? MoRef, ' +
      'authorizationManager? MoRef, licenseManager? MoRef',
  ),
  AboutInfo: type('fullName string, apiType string, apiVersion string'),
  LicenseManagerLicenseInfo: type('editionKey string, name string'),
  UserSession: type('key string'),

  // Properties
  PropertyFilterSpec: type('propSet* PropertySpec, objectSet* ObjectSpec, reportMissingObjectsInResults? boolean'),
  PropertySpec: type('type string, all? boolean, pathSet* string'),
  ObjectSpec: type('obj MoRef, skip? boolean, selectSet* SelectionSpec'),
  SelectionSpec: type('name? string'),
  TraversalSpec: type('type string, path string, skip? boolean, selectSet* SelectionSpec', 'SelectionSpec'),
  RetrieveOptions: type('maxObjects? int'),
  RetrieveResult: type('token? string, objects* ObjectContent'),
  ObjectContent: type('obj MoRef, propSet* DynamicProperty, missingSet* MissingProperty'),
  DynamicProperty: type('name string, val anyType'),
  MissingProperty: type('path string, fault LocalizedMethodFault'),
  LocalizedMethodFault: type('fault MethodFault, localizedMessage? string'),
  MethodFault: type(''),

  // Virtual machine: what we set
  VirtualMachineConfigSpec: type('changeVersion? string, extraConfig* OptionValue, changeTrackingEnabled? boolean'),
  OptionValue: type('key string, value anyType'),

  // What we read
  TaskInfo: type('task MoRef, state string, error? LocalizedMethodFault, result? anyType, progress? int'),
  VirtualMachineQuestionInfo: type('text string'),
  ManagedByInfo: type('extensionKey string, type string'),
  VirtualMachineSnapshotTree: type(
    'snapshot MoRef, name string, description string, createTime dateTime, ' +
      'childSnapshotList* VirtualMachineSnapshotTree',
  ),
  VirtualMachineFileLayoutExFileInfo: type('name string, size long'),
  DatastoreSummary: type('name string, freeSpace long, accessible boolean, type string'),
  DiskChangeInfo: type('startOffset long, length long, changedArea* DiskChangeExtent'),
  DiskChangeExtent: type('start long, length long'),
  VirtualDevice: type(
    'key int, deviceInfo? Description, backing? VirtualDeviceBackingInfo, controllerKey? int, unitNumber? int, ' +
      'capacityInKB? long, capacityInBytes? long, nativeUnmanagedLinkedClone? boolean, busNumber? int, ' +
      'sharedBus? string, macAddress? string',
  ),
  Description: type('label string'),
  VirtualDeviceBackingInfo: type(
    'fileName? string, datastore? MoRef, diskMode? string, changeId? string, parent? VirtualDeviceBackingInfo, ' +
      'sharing? string, keyId? CryptoKeyId, compatibilityMode? string, descriptorFileName? string, ' +
      'deviceName? string, network? MoRef, port? DistributedVirtualSwitchPortConnection',
  ),
  CryptoKeyId: type('keyId string'),
  DistributedVirtualSwitchPortConnection: type('portgroupKey? string'),
};
