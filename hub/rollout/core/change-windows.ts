/** Change windows: whether hosts of a zone may be started at a moment, by the wall clocks of each window's time zone, summer time included. */
import { type ChangeWindow, WEEKDAYS } from '../../../shared/protocol/rollout-spec.ts';

const MINUTES_OF_DAY = 24 * 60;

/** A zone that no window is for is always open. `atMs` in Unix milliseconds. */
export function isOpen(windows: readonly ChangeWindow[], zone: string, atMs: number): boolean {
  const own = windows.filter(({ zones }) => zones === undefined || zones.includes(zone));
  return own.length === 0 || own.some((window) => isWithin(window, atMs));
}

function isWithin({ timeZone, days, from, to }: ChangeWindow, atMs: number): boolean {
  const { day, minute } = localTime(timeZone, atMs);
  const begins = minutesOf(from);
  const ends = minutesOf(to);
  const isOn = (index: number): boolean => days.includes(WEEKDAYS[(index + 7) % 7] ?? 'mon');
  if (begins < ends) return isOn(day) && minute >= begins && minute < ends;
  // Over midnight: the day is that on which it begins.
  return (isOn(day) && minute >= begins) || (isOn(day - 1) && minute < ends);
}

/** `day`: 0 is Monday. */
function localTime(timeZone: string, atMs: number): { day: number; minute: number } {
  const parts = new Map(
    formatOf(timeZone)
      .formatToParts(atMs)
      .map(({ type, value }) => [type, value]),
  );
  const day = WEEKDAYS.findIndex((name) => name === parts.get('weekday')?.toLowerCase());
  const minute = Number(parts.get('hour')) * 60 + Number(parts.get('minute'));
  return { day, minute: minute % MINUTES_OF_DAY };
}

/** Making one takes a hundred times longer than using it. */
const FORMATS = new Map<string, Intl.DateTimeFormat>();

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = FORMATS.get(timeZone);
  if (known !== undefined) return known;
  const format = new Intl.DateTimeFormat('en-GB', {
    timeZone,
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  });
  FORMATS.set(timeZone, format);
  return format;
}

function minutesOf(time: string): number {
  const [hours = 0, minutes = 0] = time.split(':').map(Number);
  return hours * 60 + minutes;
}
