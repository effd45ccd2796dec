from recon.io.scans.nxtomo.reader import FORMAT as FORMAT
