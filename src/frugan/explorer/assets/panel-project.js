/** An own image, found in the network: dropped or chosen, projected on the server. */
import { choice, element } from "frugan/dom.js";
import { fitControls, takeCode } from "frugan/fit.js";

const SPACES = [["w", "w: edits best"], ["pn", "pn: between"], ["w+", "w+: fits closer"], ["s", "s: moves styles too"]];

export function projectPanel(app) {
  if (!app.facts.can?.project) return null;
  const {body, run} = fitControls(app, "projection"), space = choice("Space", SPACES, () => {});
  space.show("pn");
  const begin = (chosen) => chosen && run((fitting) => {
    if (chosen.size > app.facts.can.upload) throw new Error(`${chosen.name} has more than ${app.facts.can.upload >> 20} MB`);
    return fitting.project(chosen, space.input.value);
  }, takeCode(app, chosen.name));
  const file = element("input", {type: "file", accept: "image/*", "aria-label": "Image to project", onchange: () => {
    begin(file.files[0]);
    file.value = "";
  }});
  const drop = element("div", {class: "drop"}, "Drop an image onto this page, or choose one: ", file);
  app.project = begin;
  return {title: "Own image", body: [drop, space.row, ...body], update() {}};
}
