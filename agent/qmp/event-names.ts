/**
 * The events that Fairlead listens for by name (QEMU QMP reference). A name that is not here does not compile, and a test finds each one
 * in the recorded schemas of the supported versions: nobody waits for what QEMU never sends.
 */
export const QMP_EVENT_NAMES = [
  'BALLOON_CHANGE',
  'BLOCK_IO_ERROR',
  'DEVICE_DELETED',
  'DEVICE_TRAY_MOVED',
  'DEVICE_UNPLUG_GUEST_ERROR',
  'GUEST_PANICKED',
  'JOB_STATUS_CHANGE',
  'MEMORY_DEVICE_SIZE_CHANGE',
  'MIGRATION',
  'RESET',
  'RESUME',
  'SHUTDOWN',
  'STOP',
  'WATCHDOG',
] as const;

export type QmpEventName = (typeof QMP_EVENT_NAMES)[number];
