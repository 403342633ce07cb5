// The colours of a terminal, always such that they can be read on what is behind them. It knows numbers only.

export const PAPER = [14, 20, 24];
const INK = { out: [214, 222, 226], err: [240, 185, 120], in: [126, 214, 196], note: [150, 164, 172] };

const SIXTEEN = [
  [72, 84, 92],
  [240, 113, 120],
  [140, 200, 110],
  [229, 192, 110],
  [105, 165, 245],
  [205, 140, 235],
  [90, 200, 205],
  [200, 208, 214],
  [120, 134, 144],
  [255, 145, 145],
  [170, 225, 135],
  [250, 215, 135],
  [140, 190, 255],
  [225, 170, 250],
  [125, 225, 230],
  [245, 248, 250],
];

// Of a style of `screen.js`: [its ink, and its paper or nothing].
export function colours({ kind, fg, bg, inverse, dim, bold, hidden }) {
  // Bold has always meant bright, too, for the first eight.
  let ink = fg === null ? INK[kind] : rgb(bold && fg < 8 ? fg + 8 : fg);
  let paper = bg === null ? null : rgb(bg);
  if (inverse) [ink, paper] = [paper ?? PAPER, ink];
  const behind = paper ?? PAPER;
  if (hidden) return [behind, paper];
  if (dim) ink = mix(ink, behind, 0.35);
  return [readable(ink, behind), paper];
}

export const css = (colour) => `rgb(${colour.map(Math.round).join(" ")})`;

function rgb(colour) {
  if (Array.isArray(colour)) return colour;
  if (colour < 16) return SIXTEEN[colour];
  if (colour >= 232) return Array(3).fill(8 + (colour - 232) * 10);
  const step = (of) => (of ? 55 + of * 40 : 0);
  const at = colour - 16;
  return [step(Math.floor(at / 36)), step(Math.floor(at / 6) % 6), step(at % 6)];
}

const mix = (a, b, share) => a.map((it, at) => it + (b[at] - it) * share);

function luminance(colour) {
  const [r, g, b] = colour.map((it) => (it / 255 <= 0.03928 ? it / 255 / 12.92 : ((it / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function contrast(a, b) {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}

// What WCAG asks of text, and a little for rounding.
const ENOUGH = 4.6;

function readable(ink, paper) {
  if (contrast(ink, paper) >= ENOUGH) return ink;
  const to = luminance(paper) < 0.18 ? [255, 255, 255] : [0, 0, 0];
  for (let share = 0.1; share < 1; share += 0.1) {
    const nearer = mix(ink, to, share);
    if (contrast(nearer, paper) >= ENOUGH) return nearer;
  }
  return to;
}
