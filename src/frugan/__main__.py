from frugan.cli import main

main()
