/** Is it a copy? The nearest training images of the current one, where the server knows them. */
import { button, element } from "frugan/dom.js";

function thumbnail({h, w, data}) {
  const canvas = element("canvas", {"aria-hidden": "true", width: w, height: h});
  const values = Uint8ClampedArray.from(atob(data), (c) => c.charCodeAt(0));
  canvas.getContext("2d").putImageData(new ImageData(values, w, h), 0, 0);
  return canvas;
}

export function copiesPanel(app) {
  if (!app.facts.can?.nearest) return null;
  const answer = element("p", {role: "status"}), list = element("div", {class: "grid", role: "group", "aria-label": "nearest training images"});
  const look = button("Find the nearest training images", async () => {
    answer.textContent = "Looking; the first time, the features of all training images are computed …";
    look.disabled = true;
    try {
      const image = await app.still(), {usual, nearest} = await app.engines[0].nearest(image);
      const isNear = nearest[0].distance <= usual / 2;
      answer.textContent = `The nearest is at ${nearest[0].distance}; training images have another one at ${usual} (median). ${isNear ? "That is very near: compare the two." : "It is no copy by this measure."}`;
      list.replaceChildren(...nearest.map(({name, distance, pixels}) => element("figure", {class: "cell"}, thumbnail(pixels), element("span", {title: name}, `${distance} · ${name}`))));
    } catch (error) {
      answer.textContent = error.message;
    } finally {
      look.disabled = false;
    }
  });
  return {title: "Is it a copy?", body: [look, answer, list], update() {}};
}
