// The colours of a terminal, adjusted so that text is always readable on its background. Knows numbers only.

/** @import { Style } from "./style.js" */
/** @typedef {number[]} Rgb red, green and blue, 0 to 255 */

/** The background of the terminal. */
export const BACKGROUND = [14, 20, 24];
/** Foregrounds of the lines, by where they come from. */
const FOREGROUND = { out: [214, 222, 226], err: [240, 185, 120], in: [126, 214, 196], note: [150, 164, 172] };

// prettier-ignore
const SIXTEEN = [
  [72, 84, 92], [240, 113, 120], [140, 200, 110], [229, 192, 110], [105, 165, 245], [205, 140, 235], [90, 200, 205], [200, 208, 214],
  [120, 134, 144], [255, 145, 145], [170, 225, 135], [250, 215, 135], [140, 190, 255], [225, 170, 250], [125, 225, 230], [245, 248, 250],
];

/**
 * Returns the foreground and the background of a style. The background is null if it is that of the terminal.
 * @param {Style} style
 * @returns {[Rgb, Rgb | null]}
 */
export function colours({ kind, fg, bg, inverse, dim, bold, hidden }) {
  // Terminals show the first eight colours bright if they are bold.
  let front = fg === null ? FOREGROUND[kind] : rgb(bold && typeof fg === "number" && fg < 8 ? fg + 8 : fg);
  let back = bg === null ? null : rgb(bg);
  if (inverse) [front, back] = [back ?? BACKGROUND, front];
  const behind = back ?? BACKGROUND;
  if (hidden) return [behind, back];
  if (dim) front = mix(front, behind, 0.35);
  return [readable(front, behind), back];
}

/** @param {Rgb} colour */
export const css = (colour) => `rgb(${colour.map(Math.round).join(" ")})`;

/** @param {number | Rgb} colour a colour of the 256, or one that is given in full */
function rgb(colour) {
  if (Array.isArray(colour)) return colour;
  if (colour < 16) return SIXTEEN[colour];
  if (colour >= 232) return Array(3).fill(8 + (colour - 232) * 10);
  /** @param {number} step */
  const level = (step) => (step ? 55 + step * 40 : 0);
  const cube = colour - 16;
  return [level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)];
}

/**
 * @param {Rgb} a
 * @param {Rgb} b
 * @param {number} share
 */
const mix = (a, b, share) => a.map((value, at) => value + (b[at] - value) * share);

/** @param {Rgb} colour */
function luminance(colour) {
  const linear = colour.map((it) => (it / 255 <= 0.03928 ? it / 255 / 12.92 : ((it / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

/**
 * @param {Rgb} a
 * @param {Rgb} b
 */
export function contrast(a, b) {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}

// WCAG requires 4.5 for text; the rest is for rounding.
const MIN_CONTRAST = 4.6;

/**
 * Moves a foreground towards white or black until it is readable.
 * @param {Rgb} front
 * @param {Rgb} back
 */
function readable(front, back) {
  if (contrast(front, back) >= MIN_CONTRAST) return front;
  const target = luminance(back) < 0.18 ? [255, 255, 255] : [0, 0, 0];
  for (let share = 0.1; share < 1; share += 0.1) {
    const mixed = mix(front, target, share);
    if (contrast(mixed, back) >= MIN_CONTRAST) return mixed;
  }
  return target;
}
