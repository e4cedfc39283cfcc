/** The commands that change the memory and the devices of a running VM (commands.ts says how the rows are used). */
import * as v from 'valibot';
import { type CommandRow, Count, NoArguments, Nothing, row } from './command-row.ts';

const Id = v.strictObject({ id: v.string() });

export const DEVICE_COMMANDS = {
  /** Returns at once; BALLOON_CHANGE tells what the guest does. */
  balloon: row(v.strictObject({ value: Count }), Nothing),
  /** Bytes of RAM that the guest has, without memory devices. Fails with DeviceNotActive where there is no balloon. */
  'query-balloon': row(NoArguments, v.object({ actual: Count })),
  'query-memory-devices': row(
    NoArguments,
    v.array(
      v.object({
        type: v.string(),
        data: v.object({
          id: v.optional(v.string()),
          size: v.optional(Count),
          'requested-size': v.optional(Count),
          'block-size': v.optional(Count),
        }),
      }),
    ),
  ),

  'qom-get': row(v.strictObject({ path: v.string(), property: v.string() }), v.unknown()),
  'qom-set': row(v.strictObject({ path: v.string(), property: v.string(), value: v.unknown() }), Nothing),
  'qom-list': row(v.strictObject({ path: v.string() }), v.array(v.object({ name: v.string(), type: v.string() }))),
  'object-add': row(v.looseObject({ 'qom-type': v.string(), id: v.string() }), Nothing),
  'object-del': row(Id, Nothing),

  device_add: row(v.looseObject({ driver: v.string(), id: v.string() }), Nothing),
  /** Asks the guest to let go of the device and returns; DEVICE_DELETED tells that it has. */
  device_del: row(Id, Nothing),

  /** Unstable, says QEMU. Fails where there is no such device (any more). */
  'x-query-virtio-status': row(v.strictObject({ path: v.string() }), v.object({ 'vhost-started': v.boolean() })),

  'blockdev-add': row(v.looseObject({ driver: v.string(), 'node-name': v.string() }), Nothing),
  'blockdev-del': row(v.strictObject({ 'node-name': v.string() }), Nothing),
  'query-named-block-nodes': row(
    v.strictObject({ flat: v.optional(v.boolean()) }),
    v.array(v.object({ 'node-name': v.optional(v.string()) })),
  ),
  block_resize: row(v.strictObject({ 'node-name': v.string(), size: Count }), Nothing),
  'query-block': row(
    NoArguments,
    v.array(
      v.object({
        /** The device's id, or its QOM path (virtio-blk). */
        qdev: v.optional(v.string()),
        tray_open: v.optional(v.boolean()),
        locked: v.boolean(),
        inserted: v.optional(
          v.object({
            'node-name': v.optional(v.string()),
            image: v.object({ 'virtual-size': Count }),
          }),
        ),
      }),
    ),
  ),
  /** A guest that has locked its tray is only asked to open it; DEVICE_TRAY_MOVED tells that it has. */
  'blockdev-open-tray': row(v.strictObject({ id: v.string(), force: v.optional(v.boolean()) }), Nothing),
  'blockdev-close-tray': row(Id, Nothing),
  'blockdev-remove-medium': row(Id, Nothing),
  'blockdev-insert-medium': row(v.strictObject({ id: v.string(), 'node-name': v.string() }), Nothing),

  netdev_add: row(v.looseObject({ type: v.string(), id: v.string() }), Nothing),
  netdev_del: row(Id, Nothing),

  'chardev-add': row(
    v.strictObject({
      id: v.string(),
      backend: v.strictObject({
        type: v.literal('socket'),
        data: v.strictObject({
          addr: v.strictObject({ type: v.literal('unix'), data: v.strictObject({ path: v.string() }) }),
          server: v.literal(false),
        }),
      }),
    }),
    Nothing,
  ),
  'chardev-remove': row(Id, Nothing),
  'query-chardev': row(NoArguments, v.array(v.object({ label: v.string() }))),
  /** Takes the descriptor that comes with the command's own bytes (SCM_RIGHTS). */
  getfd: row(v.strictObject({ fdname: v.string() }), Nothing),
  closefd: row(v.strictObject({ fdname: v.string() }), Nothing),
} as const satisfies Record<string, CommandRow>;
