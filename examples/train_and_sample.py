"""Train on a folder of images and save sixteen new ones: python examples/train_and_sample.py photos runs/photos"""

import sys

import frugan


def main(images: str, out: str, **options) -> None:
    for record in frugan.train(images, out, **options):
        print(f"{record['kimg']:.1f} kimg  r_t {record['r_t']:.2f}  p {record['p']:.3f}")
    G = frugan.load(out)
    images = G.sample(seeds=range(16), truncation=0.7)
    print("look at", *frugan.save_images(images, f"{out}/sixteen.png", columns=4))


if __name__ == "__main__":
    main(*sys.argv[1:3], preset="tiny", kimg=50)
